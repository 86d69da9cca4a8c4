"""The operator's own code in the crash model, driven one request at a time.

A reconciliation is a coroutine that waits for nothing but the API server: it is stepped by hand. Between any
two requests the operator may die, lose its leadership, or be held up while its request is on its way.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from asyncflow.controller.leader_term import LeaderTerm
from asyncflow.controller.operator import Operator
from asyncflow.kube.client import ApiError, Body, NotLeading
from asyncflow.kube.queue import Requeue
from asyncflow.kube.source import Source
from asyncflow.settings import Settings
from model.world import World
from support.fake_api import FakeClient, Request
from support.object_store import Subscription
from support.selectors import matcher


@dataclass(frozen=True)
class Call:
    """A request that a coroutine waits for."""

    request: Request

    def __await__(self) -> Generator[Request, Any, Any]:
        return (yield self.request)


async def call(request: Request) -> Any:
    """Send a request to whoever drives the coroutine; return the answer that it gives."""
    return await Call(request)


@dataclass(frozen=True)
class InFlight:
    """A request that was sent and has not been answered."""

    request: Request
    sent: datetime
    coroutine: Coroutine[Any, Any, None]


class Elector:
    """Leadership as the explorer deals it out."""

    def __init__(self, owner: "SimulatedOperator") -> None:
        self._owner = owner

    @property
    def leading(self) -> bool:
        return self._owner.leading


SETTINGS = Settings(lease_namespace="shop", identity="model")


class SimulatedOperator:
    """One operator: its state, its watch events on their way, and what it is at."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.leading = False
        unused: Any = None
        client = FakeClient(world.api, may_write=lambda: self.leading, send=call)
        made: Any = Operator(unused, SETTINGS, client, lambda: world.now)
        made.elector = Elector(self)
        self.operator = made
        self.work: LeaderTerm | None = None
        self.running: dict[str, InFlight] = {}
        self.events: deque[tuple[Source, str, Body]] = deque()
        sources = made.sources
        self._unsubscribe: list[Callable[[], None]] = [
            world.api.subscribe(
                Subscription(
                    partial(self._told, source),
                    source.resource,
                    None,
                    matcher(source.resource, source.labels, source.watched_fields or source.fields),
                )
            )
            for source in (
                sources.tasktypes,
                sources.asynctasks,
                sources.jobs,
                sources.leases,
                sources.pods,
                sources.unbound_pods,
            )
        ]

    # What it learns

    def _told(self, source: Source, event: str, body: Body) -> None:
        self.events.append((source, event, body))

    def hear(self) -> None:
        """Let all that is on its way arrive, and ring all alarms that are due."""
        while self.deliver():
            pass
        self.ring()

    def deliver(self) -> bool:
        """Let the next watch event arrive."""
        if not self.events:
            return False
        source, event, body = self.events.popleft()
        source.deliver(event, body)
        return True

    # Its leadership

    def take_over(self) -> None:
        """Lead, by the operator's own way of taking over."""
        self.leading = True
        coroutine = self.operator.take_over()
        try:
            answer = None
            while True:
                answer = self.world.api.handle(coroutine.send(answer))
        except StopIteration as done:
            self.work = done.value

    def step_down(self) -> list[InFlight]:
        """Lose the leadership; return the writes that were on their way."""
        self.leading = False
        under_way = [flying for flying in self.running.values() if flying.request.writes]
        for flying in self.running.values():
            flying.coroutine.close()
        self.running.clear()
        self.work = None
        self.operator.end_term()
        return under_way

    def die(self) -> list[InFlight]:
        """Die; return the writes that were on their way."""
        under_way = self.step_down()
        while self._unsubscribe:
            self._unsubscribe.pop()()
        return under_way

    # Its work

    def ring(self) -> None:
        """Have all looked at whose moment has come."""
        if self.work is None:
            return
        self.work.tasks.add_due()
        self.work.types.add_due()

    def begin(self, choice: int) -> bool:
        """Begin to work on something that is queued."""
        if self.work is None:
            return False
        work = self.work
        waiting = [("task", key) for key in work.tasks.waiting if f"task {key}" not in self.running]
        waiting += [("type", key) for key in work.types.waiting if f"type {key}" not in self.running]
        if len(work.garbage_collector) and "delete " not in self.running:
            waiting.append(("delete", ""))
        if not waiting:
            return False
        what, key = waiting[choice % len(waiting)]
        if what == "delete":
            self._step("delete ", work.garbage_collector.delete_one(), None)
            return True
        (work.tasks if what == "task" else work.types).take(key)
        reconcile = work.reconcile_task if what == "task" else work.reconcile_type
        self._step(f"{what} {key}", reconcile(key), None)
        return True

    def govern(self) -> bool:
        """Let the stuck-task governor look."""
        if self.work is None or "governor" in self.running:
            return False
        self._step("governor", self.work.govern(("shop", "poll")), None)
        return True

    def answer(self, choice: int, *, lost: bool = False) -> bool:
        """Have a request that is in flight carried out and answered; a lost answer looks like an error."""
        if not self.running:
            return False
        key = sorted(self.running)[choice % len(self.running)]
        flying = self.running.pop(key)
        if lost and flying.request.writes:
            no_answer = ApiError(504, "Timeout", "no answer in time")
            self.world.api.fail(flying.request.verb, no_answer, applied=True)
        try:
            result: Any = self.world.api.handle(flying.request)
        except ApiError as error:
            result = error
        self._step(key, flying.coroutine, result)
        return True

    def _step(self, key: str, coroutine: Coroutine[Any, Any, None], result: Any) -> None:
        try:
            request = coroutine.throw(result) if isinstance(result, Exception) else coroutine.send(result)
        except StopIteration:
            return
        except (Requeue, ApiError, NotLeading):
            what, _, name = key.partition(" ")
            if self.work is not None and name:
                (self.work.tasks if what == "task" else self.work.types).add(name)
            return
        self.running[key] = InFlight(request, self.world.now, coroutine)
