"""A simulated cluster with one operator, for tests of single histories."""

from datetime import timedelta
from typing import Any

from asyncflow.kube.client import JOBS, TASKS, TYPES
from model.explorer import type_body
from model.operators import SimulatedOperator
from model.world import World


class Shop:
    """A simulated cluster with one operator that leads, and one TaskType named poll."""

    def __init__(self, **spec: Any) -> None:
        self.world = World()
        self.operator = SimulatedOperator(self.world, "A")
        self.world.create(TYPES, type_body(**spec))
        self.operator.take_over()
        self.settle()

    def create(self, name: str, **spec: Any) -> None:
        """Create a task of the type."""
        self.world.create(TASKS, {"metadata": {"name": name}, "spec": {"taskTypeName": "poll", **spec}})

    def fail(self, name: str) -> None:
        """End a task's attempt with a non-retriable failure; the event of its pod does not arrive."""
        message = "Container main for pod shop/p failed with exit code 9 matching FailJob rule at index 1"
        self.world.end_job(f"{name}-0-1", "Failed", "PodFailurePolicy", message, failed=1)
        self.settle()
        self.world.now += timedelta(seconds=3)

    def change_type(self, **spec: Any) -> None:
        """Change the spec of the type."""
        self.world.patch(TYPES, "poll", spec=spec)

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
        """The names of all Jobs."""
        return set(self.world.objects[JOBS])
