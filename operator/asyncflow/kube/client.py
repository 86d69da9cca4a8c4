"""The API client: objects are plain dictionaries, which keeps requests cheap.

A request takes 0.1 ms of CPU; with a typed client it takes 0.5–0.6 ms. Every request has a timeout, and every
write has one on the server, too.
"""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import orjson

from asyncflow.api import names
from asyncflow.kube.connection import Connection, ConnectionFailed

Body = dict[str, Any]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
WRITE_SECONDS = 10.0
"""Maximum time that a write is in flight."""
LIST_CHUNK = 1000
"""Objects per page of a list."""

WATCH_SECONDS = 300
"""Maximum duration of a watch request: bounds how long a watch that stopped delivering goes unnoticed."""
SILENCE_SECONDS = 70
"""A watch without any event for this long is resumed: the API server sends a bookmark about every minute."""


class ApiError(Exception):
    """The API server responded with an error."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def already_exists(self) -> bool:
        """Whether an object of that name exists already."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def conflict(self) -> bool:
        """Whether the object does not match the preconditions of the write: it has changed."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def not_found(self) -> bool:
        """Whether the object does not exist."""
        return self.status == 404


class ApiUnreachable(Exception):
    """The API server did not respond: it is unknown whether the request took effect."""


class NotLeading(Exception):
    """A write was not sent because this operator does not hold the leader Lease."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the API: group, version and plural name."""

    group: str
    version: str
    plural: str

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """Return the URL path of a collection, an object or a subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


TASKS = Resource(names.GROUP, names.VERSION, names.TASK_PLURAL)
TYPES = Resource(names.GROUP, names.VERSION, names.TYPE_PLURAL)
JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods")
NODES = Resource("", "v1", "nodes")
CORE_EVENTS = Resource("", "v1", "events")
LEASES = Resource("coordination.k8s.io", "v1", "leases")


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of objects at one resource version, or a page of it."""

    items: list[Body]
    resource_version: str


class ApiClient:
    """Requests to one API server. Safe for concurrent use by coroutines.

    Args:
        connection: the connection to the API server.
        write_seconds: maximum time, in seconds, between sending a write and its last effect.
        may_write: returns whether writes are allowed; called before each write is sent.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        write_seconds: float = WRITE_SECONDS,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._connection = connection
        self._write_seconds = write_seconds
        self._may_write = may_write
        self.unanswered = 0
        """Number of requests without a response. Watches may have stopped delivering events at that time."""

    async def served(self, group: str, version: str) -> set[str]:
        """Return the plural names of the served resources of a group version; empty if it is not served.

        Raises:
            ApiError, ApiUnreachable: discovery failed.
        """
        try:
            resource_list = await self._request("GET", f"/apis/{group}/{version}")
        except ApiError as error:
            if error.not_found:
                return set()
            raise
        return {resource["name"] for resource in resource_list["resources"]}

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        """Read one object; for a cluster-scoped resource the namespace is None.

        Raises:
            ApiError: the API server responded with an error, such as 404.
            ApiUnreachable: it did not respond.
        """
        return await self._request("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> Listing:
        """Read all objects that match the selectors, in a consistent list at the newest resource version.

        Raises:
            ApiError, ApiUnreachable: as `parts`.
        """
        items: list[Body] = []
        async for page in self.parts(resource, namespace, labels=labels, fields=fields):
            items += page.items
        return Listing(items, page.resource_version)

    async def parts(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[Listing]:
        """Yield a consistent list page by page, so that not all objects are in memory at once.

        Raises:
            ApiError: the API server responded with an error, such as 410: the continue token has expired,
                list again from the first page.
            ApiUnreachable: it did not respond.
        """
        params = {"limit": str(LIST_CHUNK), **_selectors(labels, fields)}
        while True:
            page = await self._request("GET", resource.path(namespace), params=params)
            yield Listing(page["items"], page["metadata"]["resourceVersion"])
            token = page["metadata"].get("continue")
            if not token:
                return
            params = {**params, "continue": token}

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        version: str,
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[tuple[str, Body]]:
        """Yield every event since a resource version, with bookmarks; ends after at most `WATCH_SECONDS`.

        Raises:
            ApiError: the API server responded with an error, also as an ERROR event, such as 410: the
                resource version is too old, list again.
            ApiUnreachable: it did not respond, or the connection broke.
        """
        params = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(0.8, 1))),
            **_selectors(labels, fields),
        }
        connect = self._connection.read_timeout.sock_connect
        limit = aiohttp.ClientTimeout(sock_connect=connect, sock_read=SILENCE_SECONDS)
        path, rest = resource.path(namespace), b""
        try:
            async with self._connection.session.get(
                self._connection.server + path,
                params=params,
                headers={"Accept": JSON, **self._connection.auth_headers()},
                timeout=limit,
            ) as response:
                if response.status >= 400:
                    raise _error(response, await response.read())
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = orjson.loads(line)
                        if event["type"] == "ERROR":
                            raise _error_event(event["object"])
                        yield event["type"], event["object"]
        except (aiohttp.ClientError, OSError, ConnectionFailed) as error:
            raise ApiUnreachable(f"watch of {path}: {type(error).__name__} {error}".rstrip()) from error

    async def create(self, resource: Resource, namespace: str, body: Body, *, dry_run: bool = False) -> Body:
        """Create an object; as a dry run the API server only validates it (``dryRun=All``)."""
        params = {"dryRun": "All"} if dry_run else {}
        return await self._request("POST", resource.path(namespace), body=body, params=params)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Body) -> Body:
        """Replace an object, provided that its resource version is still that of the body."""
        return await self._request("PUT", resource.path(namespace, name), body=body)

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Body, *, subresource: str | None = None
    ) -> Body:
        """Apply a JSON merge patch (RFC 7396) to an object or its subresource."""
        path = resource.path(namespace, name, subresource)
        return await self._request("PATCH", path, body=body, content_type=MERGE_PATCH)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, version: str | None = None
    ) -> None:
        """Delete an object and, in the background, its dependents.

        Args:
            resource: the resource of the object.
            namespace: its namespace.
            name: its name.
            uid: precondition: the uid of the object.
            version: precondition: its resource version; None for any.

        Raises:
            ApiError: the API server responded with an error, such as 409: a precondition does not hold.
            ApiUnreachable: it did not respond.
            NotLeading: the request was not sent.
        """
        preconditions = {"uid": uid} if version is None else {"uid": uid, "resourceVersion": version}
        body = {"propagationPolicy": "Background", "preconditions": preconditions}
        await self._request("DELETE", resource.path(namespace, name), body=body)

    async def _request(
        self,
        method: Method,
        path: str,
        *,
        body: Body | None = None,
        params: dict[str, str] | None = None,
        content_type: str = JSON,
    ) -> Body:
        query = dict(params or {})
        if method == "GET":
            limit = self._connection.read_timeout
        else:
            # Half of it to reach the API server, half to be processed: then no write is in flight.
            query["timeout"] = f"{self._write_seconds / 2:g}s"
            limit = aiohttp.ClientTimeout(total=self._write_seconds / 2)
            if not self._may_write():
                raise NotLeading(f"{method} {path} not sent: not leading")
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._connection.session.request(
                method,
                self._connection.server + path,
                params=query,
                data=data,
                headers={"Content-Type": content_type, "Accept": JSON, **self._connection.auth_headers()},
                timeout=limit,
            ) as response:
                content = await response.read()
                if response.status >= 400:
                    raise _error(response, content)
                result: Body = orjson.loads(content)
                return result
        except (aiohttp.ClientError, OSError, ConnectionFailed) as error:
            self.unanswered += 1
            raise ApiUnreachable(f"{method} {path}: {type(error).__name__} {error}".rstrip()) from error


def _selectors(labels: str | None, fields: str | None) -> dict[str, str]:
    selectors = {"labelSelector": labels, "fieldSelector": fields}
    return {name: selector for name, selector in selectors.items() if selector}


def _error_event(status: Body) -> ApiError:
    """Return the error in an ERROR event of a watch."""
    return ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))


def _error(response: aiohttp.ClientResponse, content: bytes) -> ApiError:
    try:
        status = orjson.loads(content)
        reason, message = status.get("reason", ""), status.get("message", "")
    except (ValueError, AttributeError):
        reason, message = response.reason or "", content[:500].decode(errors="replace")
    retry_after = response.headers.get("Retry-After", "")
    seconds = float(retry_after) if retry_after.isdecimal() else None
    return ApiError(response.status, reason, message, seconds)
