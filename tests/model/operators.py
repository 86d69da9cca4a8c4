"""The operator's own code in the crash model, driven one request at a time.

A reconciliation is a coroutine that waits for nothing but the API server: it is stepped by hand. Between any
two requests the operator may die, lose its leadership, or be held up while its request is on its way.
"""

from collections import deque
from collections.abc import AsyncIterator, Coroutine, Generator
from dataclasses import dataclass, replace
from typing import Any

from asyncflow.controller.leader_term import LeaderTerm
from asyncflow.controller.operator import Operator
from asyncflow.kube.client import (
    JOBS,
    PODS,
    ApiError,
    Body,
    Listing,
    NotLeading,
    Resource,
)
from asyncflow.kube.queue import Requeue
from asyncflow.settings import Settings
from model.world import Request, World


@dataclass
class Call:
    """A request that a coroutine waits for."""

    request: Request

    def __await__(self) -> Generator[Request, Any, Any]:
        return (yield self.request)


class Client:
    """What the operator takes for its API client."""

    unanswered = 0

    def __init__(self, owner: "SimulatedOperator") -> None:
        self._owner = owner

    async def _send(self, request: Request) -> Any:
        if request.writes and not self._owner.leading:
            raise NotLeading(request.method)
        return await Call(replace(request, sent=self._owner.world.now))

    async def get(self, resource: Resource, _: str | None, name: str) -> Body:
        return await self._send(Request("get", resource, name))  # type: ignore[no-any-return]

    async def list(
        self,
        resource: Resource,
        _: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> Listing:
        return await self._send(Request("list", resource, labels=labels, fields=fields))  # type: ignore[no-any-return]

    async def parts(
        self,
        resource: Resource,
        _: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[Listing]:
        yield await self._send(Request("list", resource, labels=labels, fields=fields))

    async def create(self, resource: Resource, _: str, body: Body, *, dry_run: bool = False) -> Body:
        name = body["metadata"]["name"]
        return await self._send(Request("create", resource, name, body, dry_run=dry_run))  # type: ignore[no-any-return]

    async def patch(
        self, resource: Resource, _: str, name: str, body: Body, *, subresource: str | None = None
    ) -> Body:
        return await self._send(Request("patch", resource, name, body, subresource=subresource))  # type: ignore[no-any-return]

    async def delete(
        self, resource: Resource, _: str, name: str, *, uid: str, version: str | None = None
    ) -> None:
        await self._send(Request("delete", resource, name, uid=uid, version=version))


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
        self.events: deque[tuple[Resource, str, Body]] = deque()
        world.watchers.append(self.events)
        unused: Any = None
        client: Any = Client(self)
        made: Any = Operator(unused, SETTINGS, client, lambda: world.now)
        made.elector = Elector(self)
        self.operator = made
        self.work: LeaderTerm | None = None
        self.running: dict[str, tuple[Coroutine[Any, Any, None], Request]] = {}

    # What it learns

    def hear(self) -> None:
        """Let all that is on its way arrive, and ring all alarms that are due."""
        while self.deliver():
            pass
        self.ring()

    def deliver(self) -> bool:
        """Let the next watch event arrive."""
        if not self.events:
            return False
        task_type, event, body = self.events.popleft()
        source = getattr(self.operator.sources, task_type.plural)
        if task_type not in (JOBS, PODS) or "labels" in body["metadata"]:
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
                answer = self.world.handle(coroutine.send(answer))
        except StopIteration as done:
            self.work = done.value

    def step_down(self) -> list[Request]:
        """Lose the leadership; return the writes that were on their way."""
        self.leading = False
        under_way = [request for _, request in self.running.values() if request.writes]
        for coroutine, _ in self.running.values():
            coroutine.close()
        self.running.clear()
        self.work = self.operator._term = None
        return under_way

    def die(self) -> list[Request]:
        """Die; return the writes that were on their way."""
        under_way = self.step_down()
        self.world.watchers = [watcher for watcher in self.world.watchers if watcher is not self.events]
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
        coroutine, request = self.running.pop(key)
        try:
            result: Any = self.world.handle(request)
        except ApiError as error:
            result = error
        if lost and request.writes:
            result = ApiError(504, "Timeout", "no answer in time")
        self._step(key, coroutine, result)
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
        self.running[key] = (coroutine, request)
