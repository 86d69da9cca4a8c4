"""Plain requests to a control plane of ours, as its administrator: cheap enough for thousands of objects."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

import aiohttp
import orjson

from clusters.controlplane import ControlPlane

JOBS = "/apis/batch/v1/namespaces/{}/jobs"
PODS = "/api/v1/namespaces/{}/pods"
TASKS = "/apis/asyncflow.dev/v1alpha1/namespaces/{}/asynctasks"
TYPES = "/apis/asyncflow.dev/v1alpha1/namespaces/{}/tasktypes"
SENDERS = 24
LINE_MAX = 2**22

Body = dict[str, Any]
T = TypeVar("T")


class AdminApi:
    """One session with a control plane."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._url = control_plane.url
        tls = ssl.create_default_context(cafile=str(control_plane.ca_file))
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {control_plane.token}"},
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            read_bufsize=LINE_MAX,
        )

    async def __aenter__(self) -> "AdminApi":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, method: str, path: str, body: Body | None = None, /, **params: str) -> Body:
        """Send a request; return the answer.

        Raises:
            RuntimeError: the API server refused it.
        """
        decoded: Body = orjson.loads(await self._send(method, path, body, params))
        return decoded

    async def text(self, path: str) -> str:
        """Return what is read at a path that has no objects, such as ``/metrics``."""
        return (await self._send("GET", path, None, {})).decode()

    async def _send(self, method: str, path: str, body: Body | None, params: dict[str, str]) -> bytes:
        patch = "application/merge-patch+json" if method == "PATCH" else "application/json"
        async with self._session.request(
            method,
            self._url + path,
            params=params,
            data=orjson.dumps(body) if body else None,
            headers={"Content-Type": patch},
        ) as answer:
            content = await answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {content.decode()}")
            return content

    async def all(self, path: str) -> list[Body]:
        """Return all objects of a collection."""
        items: list[Body] = []
        token = ""
        while True:
            chunk = await self.send("GET", path, limit="2000", **({"continue": token} if token else {}))
            items += chunk["items"]
            if not (token := chunk["metadata"].get("continue", "")):
                return items

    async def version(self, path: str) -> str:
        """Return the version of a collection: a watch from there hears of all that comes."""
        found: str = (await self.send("GET", path, limit="1"))["metadata"]["resourceVersion"]
        return found

    async def is_empty(self, path: str) -> bool:
        """Tell whether a collection has no objects."""
        return not (await self.send("GET", path, limit="1"))["items"]

    async def create(self, path: str, bodies: Iterable[Body]) -> None:
        """Create objects, some at a time."""
        await self.send_all(("POST", path, body) for body in bodies)

    async def send_all(self, requests: Iterable[tuple[str, str, Body]]) -> None:
        """Send requests, each a method, a path and a body, some at a time."""
        await self.for_each(requests, lambda request: self.send(*request))

    async def for_each(self, items: Iterable[T], work: Callable[[T], Awaitable[object]]) -> None:
        """Do some work for each item, for some of them at a time."""
        remaining = iter(items)

        async def worker() -> None:
            for item in remaining:
                await work(item)

        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(worker())

    async def watch(self, path: str, version: str) -> AsyncIterator[tuple[str, Body]]:
        """Yield every change of a collection since a version, until cancelled."""
        while True:
            params = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "1"}
            limit = aiohttp.ClientTimeout(total=None)
            async with self._session.get(self._url + path, params=params, timeout=limit) as answer:
                async for line in answer.content:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise RuntimeError(f"the watch of {path} has missed something: {event['object']}")
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]
