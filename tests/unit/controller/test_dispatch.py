"""Who runs, after any sequence of changes: the operator's own code against a model of a few lines."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asyncflow.api.meta import format_time
from asyncflow.core.lifecycle.history import EVIDENCE_AFTER
from asyncflow.kube.client import JOBS, TASKS, TYPES
from model.explorer import type_body
from model.operators import SimulatedOperator
from model.world import World

STEPS_MAX = 5000


@dataclass
class Task:
    """What the model knows of a task."""

    created: datetime
    priority: int | None
    not_before: datetime | None = None
    suspended: bool = False


class DispatchMachine(RuleBasedStateMachine):
    """One type. Whoever may start and has the best place is started as soon as there is a slot."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.operator = SimulatedOperator(self.world, "A")
        self.tasks: dict[str, Task] = {}
        self.live: set[str] = set()
        self.ended: set[str] = set()
        self.limit, self.priority, self.suspended = 2, 0, False
        self.made = 0

    # The model

    def start_who_may(self) -> None:
        while not self.suspended and len(self.live) < self.limit:
            waiting = [name for name in self.tasks if name not in self.live | self.ended and self.may(name)]
            if not waiting:
                return
            self.live.add(min(waiting, key=self.place))

    def may(self, name: str) -> bool:
        task = self.tasks[name]
        return not task.suspended and (task.not_before is None or task.not_before <= self.world.now)

    def place(self, name: str) -> tuple[int, datetime, str]:
        task = self.tasks[name]
        priority = self.priority if task.priority is None else task.priority
        return -priority, max(task.created, task.not_before or task.created), name

    # The operator

    def settle(self) -> None:
        """Let the operator do all it has to do, and the model too."""
        for _ in range(STEPS_MAX):
            self.operator.hear()
            if not (self.operator.answer(0) or self.operator.begin(0)):
                break
        else:
            raise AssertionError("the operator does not come to rest")
        self.start_who_may()

    def change(self, resource: Any, name: str, **spec: Any) -> None:
        self.world.patch(resource, name, spec=spec)
        self.settle()

    # What people do

    @initialize()
    def begin(self) -> None:
        self.world.create(TYPES, type_body())
        self.operator.take_over()
        self.settle()
        for priority in (None, None, 1, -1, None):
            self.create(priority, None)

    @rule(priority=st.none() | st.integers(-1, 2), seconds=st.none() | st.integers(-5, 30))
    def create(self, priority: int | None, seconds: int | None) -> None:
        self.made += 1
        name = f"t{self.made}"
        due = None if seconds is None else self.world.now + timedelta(seconds=seconds)
        spec: dict[str, Any] = {"taskTypeName": "poll"}
        spec |= {} if priority is None else {"priority": priority}
        spec |= {} if due is None else {"notBefore": format_time(due)}
        self.world.create(TASKS, {"metadata": {"name": name}, "spec": spec})
        self.tasks[name] = Task(self.world.now, priority, due)
        self.settle()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.tasks)))
        self.world.delete(TASKS, name)
        for job in [j for j in self.world.objects[JOBS] if j.startswith(f"{name}-")]:
            self.world.delete(JOBS, job, propagation="Background")
        del self.tasks[name]
        self.live.discard(name)
        self.ended.discard(name)
        self.settle()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), priority=st.none() | st.integers(-1, 2))
    def change_priority(self, data: st.DataObject, priority: int | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.tasks)))
        self.tasks[name].priority = priority
        self.change(TASKS, name, priority=priority)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), seconds=st.none() | st.integers(-5, 30))
    def change_not_before(self, data: st.DataObject, seconds: int | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.tasks)))
        due = None if seconds is None else self.world.now + timedelta(seconds=seconds)
        self.tasks[name].not_before = due
        self.change(TASKS, name, notBefore=None if due is None else format_time(due))

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def suspend_or_resume(self, data: st.DataObject) -> None:
        task = self.tasks[name := data.draw(st.sampled_from(sorted(self.tasks)))]
        task.suspended = not task.suspended
        self.change(TASKS, name, suspend=task.suspended)

    @rule(limit=st.integers(1, 4))
    def change_the_limit(self, limit: int) -> None:
        self.limit = limit
        self.change(TYPES, "poll", maxConcurrent=limit)

    @rule()
    def suspend_or_resume_the_type(self) -> None:
        self.suspended = not self.suspended
        self.change(TYPES, "poll", suspend=self.suspended)

    @rule(priority=st.integers(-1, 1))
    def change_the_priority_of_the_type(self, priority: int) -> None:
        self.priority = priority
        self.change(TYPES, "poll", priority=priority)

    @rule()
    def change_the_pod_of_the_type(self) -> None:
        containers = [{"name": "main", "image": f"image-{self.world.api.version}"}]
        self.change(TYPES, "poll", template={"spec": {"containers": containers}})

    # What happens

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def end_an_attempt(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.live)))
        now = format_time(self.world.now - EVIDENCE_AFTER)  # the event of its pod is not waited for any more
        self.world.end_job(f"{name}-0-1", "Complete", "", "", succeeded=1, completionTime=now)
        self.live.discard(name)
        self.ended.add(name)
        self.settle()

    @rule(seconds=st.integers(1, 20))
    def time_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)
        self.settle()

    @rule()
    def the_operator_dies(self) -> None:
        self.operator.die()
        self.operator = SimulatedOperator(self.world, "A")
        self.operator.take_over()
        self.settle()

    @invariant()
    def those_run_that_should(self) -> None:
        running = {
            body["metadata"]["labels"]["asyncflow.dev/task"]
            for body in self.world.objects[JOBS].values()
            if not body["status"].get("conditions")
        }
        assert running == self.live


DispatchMachine.TestCase.settings = settings(
    stateful_step_count=40, max_examples=settings().max_examples * 6 // 10
)
TestDispatch = DispatchMachine.TestCase
