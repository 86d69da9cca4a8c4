"""The fake API server of the tests, and its client.

`FakeApiServer` is an `ObjectStore` that takes requests: it keeps them, and may be told to fail them.
`FakeClient` has the interface of the operator's own client and needs no network; `support.fake_http` serves
the same objects to the real client.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from asyncflow.controller.clock import utc_now
from asyncflow.kube.client import ApiClient, ApiError, ApiUnreachable, Body, Listing, NotLeading, Resource
from support.object_store import RESOURCES, Event, ObjectStore, Propagation, Subscription
from support.selectors import matcher

Verb = Literal["get", "list", "watch", "create", "update", "patch", "delete"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a client."""

    verb: Verb
    resource: Resource
    namespace: str | None = None
    name: str = ""
    body: Body = field(default_factory=dict)
    subresource: str | None = None
    labels: str | None = None
    fields: str | None = None
    uid: str | None = None
    """A precondition of a deletion."""
    version: str | None = None
    """A precondition of a deletion; of a watch, the version that it begins after."""
    propagation: Propagation | None = None
    dry_run: bool = False

    @property
    def writes(self) -> bool:
        """Whether only a leader sends it."""
        return self.verb not in ("get", "list", "watch")


@dataclass(slots=True)
class _Fault:
    """What becomes of requests to come."""

    verb: Verb
    name: str | None
    error: ApiError | ApiUnreachable
    times: int
    applied: bool


class FakeWatch:
    """An open watch: an asynchronous iterator of events, until it is closed."""

    def __init__(self) -> None:
        self._events = asyncio.Queue[Event | Exception | None]()

    def tell(self, event_type: str, body: Body) -> None:
        """Have an event told."""
        self._events.put_nowait((event_type, body))

    def close(self, error: ApiError | ApiUnreachable | None = None) -> None:
        """End it after the events told so far: in order, or with an error."""
        self._events.put_nowait(error)

    def __aiter__(self) -> "FakeWatch":
        return self

    async def __anext__(self) -> Event:
        event = await self._events.get()
        if event is None:
            raise StopAsyncIteration
        if isinstance(event, Exception):
            raise event
        return event


class FakeApiServer(ObjectStore):
    """An API server that clients send requests to.

    The methods of `ObjectStore` are what other users of the cluster do, a test among them: they meet no fault
    and are not recorded. What the code under test sends comes through `handle` and `open_watch`.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock)
        self.requests: list[Request] = []
        """What clients have sent, in order."""
        self.before: Callable[[Request], None] = lambda _: None
        """Called with each request before anything is done about it."""
        self._watches: dict[FakeWatch, Callable[[], None]] = {}
        self._faults: list[_Fault] = []
        self._requested = asyncio.Event()

    # Requests of clients

    def handle(self, request: Request) -> Any:
        """Do what a client asks for, unless a fault is due; return the answer, a copy.

        Raises:
            ApiError: the API server refuses it.
            ApiUnreachable: the client gets no answer.
        """
        self._receive(request)
        self._fail(request, applied=False)
        try:
            return self._apply(request)
        finally:
            self._fail(request, applied=True)

    def fail(
        self,
        verb: Verb,
        error: ApiError | ApiUnreachable,
        *,
        name: str | None = None,
        times: int = 1,
        applied: bool = False,
    ) -> None:
        """Let the next requests of a verb fail, or only those about one object.

        Args:
            verb: which requests.
            error: how; `ApiUnreachable` is no answer at all.
            name: the object.
            times: how many requests.
            applied: whether they have their effect all the same.
        """
        self._faults.append(_Fault(verb, name, error, times, applied))

    async def until_requested(self, verb: Verb, times: int = 1) -> None:
        """Wait until so many requests of a verb have come in."""
        while sum(request.verb == verb for request in self.requests) < times:
            self._requested.clear()
            await self._requested.wait()

    def _receive(self, request: Request) -> None:
        self.requests.append(request)
        self._requested.set()
        self.before(request)

    def _fail(self, request: Request, *, applied: bool) -> None:
        for fault in self._faults:
            if (fault.verb, fault.applied) == (request.verb, applied) and fault.name in (None, request.name):
                fault.times -= 1
                if not fault.times:
                    self._faults.remove(fault)
                raise fault.error

    def _apply(self, request: Request) -> Any:
        resource, namespace, name = request.resource, request.namespace, request.name
        match request.verb:
            case "get":
                return self.get(resource, namespace, name)
            case "list":
                return self.list(resource, namespace, labels=request.labels, fields=request.fields)
            case "create":
                return self.create(resource, namespace, request.body, dry_run=request.dry_run)
            case "update":
                return self.update(resource, namespace, name, request.body)
            case "patch":
                return self.patch(resource, namespace, name, request.body, subresource=request.subresource)
            case "delete":
                return self.delete(
                    resource,
                    namespace,
                    name,
                    uid=request.uid,
                    version=request.version,
                    propagation=request.propagation,
                )
        raise AssertionError(request.verb)

    # Watches

    def open_watch(self, request: Request) -> FakeWatch:
        """Open the watch that a client asks for: it is told of all changes since a version.

        Raises:
            ApiError, ApiUnreachable: it is refused.
        """
        self._receive(request)
        self._fail(request, applied=False)
        watch = FakeWatch()
        matches = matcher(request.resource, request.labels, request.fields)
        subscription = Subscription(watch.tell, request.resource, request.namespace, matches)
        try:
            self.replay(subscription, int(request.version or self.version))
        except ApiError as error:
            watch.close(error)
        else:
            self._watches[watch] = self.subscribe(subscription)
        return watch

    def forget(self, watch: FakeWatch) -> None:
        """Tell a watch of nothing more: its client is gone."""
        if watch in self._watches:
            self._watches.pop(watch)()

    def close_watches(self, error: ApiError | ApiUnreachable | None = None) -> None:
        """End all open watches: in order, with an ERROR event, or by breaking their connections."""
        for watch in list(self._watches):
            watch.close(error)
            self.forget(watch)

    def send_bookmarks(self) -> None:
        """Tell all open watches how far they are."""
        for watch in self._watches:
            watch.tell("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})


class FakeClient(ApiClient):
    """The client of a fake API server, without a network.

    Args:
        server: the API server.
        may_write: asked before each write is sent.
        send: what delivers a request and returns its answer; by default the API server handles it at once.
    """

    def __init__(
        self,
        server: FakeApiServer,
        *,
        may_write: Callable[[], bool] = lambda: True,
        send: Callable[[Request], Awaitable[Any]] | None = None,
    ) -> None:
        self.unanswered = 0
        self._server = server
        self._leading = may_write
        self._send = send or self._handle

    async def _handle(self, request: Request) -> Any:
        return self._server.handle(request)

    async def _ask(self, request: Request) -> Any:
        if request.writes and not self._leading():
            raise NotLeading(f"{request.verb} {request.resource.plural} {request.name} not sent: not leading")
        try:
            return await self._send(request)
        except ApiUnreachable:
            self.unanswered += 1
            raise

    async def served(self, group: str, version: str) -> set[str]:
        return served(group, version)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        found: Body = await self._ask(Request("get", resource, namespace, name))
        return found

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> Listing:
        listing: Listing = await self._ask(Request("list", resource, namespace, labels=labels, fields=fields))
        return listing

    async def parts(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[Listing]:
        yield await self.list(resource, namespace, labels=labels, fields=fields)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        version: str,
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[Event]:
        watch = self._server.open_watch(
            Request("watch", resource, namespace, version=version, labels=labels, fields=fields)
        )
        try:
            async for event in watch:
                yield event
        finally:
            self._server.forget(watch)

    async def create(self, resource: Resource, namespace: str, body: Body, *, dry_run: bool = False) -> Body:
        name = body.get("metadata", {}).get("name", "")
        made: Body = await self._ask(Request("create", resource, namespace, name, body, dry_run=dry_run))
        return made

    async def replace(self, resource: Resource, namespace: str, name: str, body: Body) -> Body:
        written: Body = await self._ask(Request("update", resource, namespace, name, body))
        return written

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Body, *, subresource: str | None = None
    ) -> Body:
        written: Body = await self._ask(
            Request("patch", resource, namespace, name, body, subresource=subresource)
        )
        return written

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, version: str | None = None
    ) -> None:
        await self._ask(
            Request("delete", resource, namespace, name, uid=uid, version=version, propagation="Background")
        )


def served(group: str, version: str) -> set[str]:
    """Return the plural names of the resources of a group that the API server serves."""
    return {
        resource.plural for resource in RESOURCES if (resource.group, resource.version) == (group, version)
    }
