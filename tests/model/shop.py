"""A simulated cluster with one operator, for tests of single histories."""

from datetime import timedelta
from typing import Any

from asyncflow.kube.client import JOBS, TASKS, TYPES
from model.explorer import type_body
from model.operators import SimulatedOperator
from model.world import Request, World


class Shop:
    """A simulated cluster with one operator that leads, and one TaskType named poll."""

    def __init__(self, **spec: Any) -> None:
        self.world = World()
        self.operator = SimulatedOperator(self.world, "A")
        self.world.handle(Request("create", TYPES, "poll", type_body(**spec)))
        self.operator.take_over()
        self.settle()

    def create(self, name: str, **spec: Any) -> None:
        body = {"metadata": {"name": name, "generation": 1}, "spec": {"taskTypeName": "poll", **spec}}
        self.world.handle(Request("create", TASKS, name, body))

    def fail(self, name: str) -> None:
        """Let a task's attempt fail for good; its pod is not seen, so the operator reads it after a while."""
        (job,) = [body for key, body in self.world.objects[JOBS].items() if key == f"{name}-0-1"]
        message = "Container main for pod shop/p failed with exit code 9 matching FailJob rule at index 1"
        self.world._end(job, "Failed", "PodFailurePolicy", message)
        job["status"]["failed"] = 1
        self.world.changed(JOBS, f"{name}-0-1")
        self.settle()
        self.world.now += timedelta(seconds=3)

    def change_type(self, **spec: Any) -> None:
        """Change what a person may change of the type."""
        body = self.world.objects[TYPES]["poll"]
        body["spec"] |= spec
        body["metadata"]["generation"] += 1
        self.world.changed(TYPES, "poll")

    def settle(self, *, lost: bool = False) -> int:
        """Let the operator work until there is nothing to do; return how many reconciliations it began.

        Args:
            lost: the response to each write is lost.
        """
        begun = 0
        while True:
            self.operator.hear()
            if self.operator.begin(0):
                begun += 1
            elif not self.operator.answer(0, lost=lost):
                return begun

    @property
    def jobs(self) -> set[str]:
        return set(self.world.objects[JOBS])
