"""What the API server tells of a run, in its own order: from outside, without a word of the operator's."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from clusters.controlplane import ControlPlane

JOBS = "/apis/batch/v1/namespaces/{}/jobs"
TASKS = "/apis/asyncflow.dev/v1alpha1/namespaces/{}/asynctasks"
TYPES = "/apis/asyncflow.dev/v1alpha1/namespaces/{}/tasktypes"
CREATORS = 24
LINE_MAX = 2**22

Body = dict[str, Any]


class Api:
    """Plain requests to a control plane, as its administrator."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._url = control_plane.url
        tls = ssl.create_default_context(cafile=str(control_plane.ca_file))
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {control_plane.token}"},
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            read_bufsize=LINE_MAX,
        )

    async def __aenter__(self) -> "Api":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, method: str, path: str, body: Body | None = None, /, **params: str) -> Body:
        """Send a request; return the answer.

        Raises:
            RuntimeError: the API server refused it.
        """
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
            decoded: Body = orjson.loads(content)
            return decoded

    async def all(self, path: str) -> list[Body]:
        """Return all objects of a collection."""
        items: list[Body] = []
        token = ""
        while True:
            chunk = await self.send("GET", path, limit="2000", **({"continue": token} if token else {}))
            items += chunk["items"]
            if not (token := chunk["metadata"].get("continue", "")):
                return items

    async def create(self, path: str, bodies: list[Body]) -> None:
        """Create objects, some at a time."""
        remaining = iter(bodies)

        async def creator() -> None:
            for body in remaining:
                await self.send("POST", path, body)

        async with asyncio.TaskGroup() as group:
            for _ in range(CREATORS):
                group.create_task(creator())

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


@dataclass
class Attempt:
    """What was seen of a Job. Versions are the API server's: one order for all objects."""

    task: str
    number: int
    created: int
    began: float
    ended: float | None = None


@dataclass
class Observer:
    """The Jobs and tasks of one namespace, as they came and went."""

    api: Api
    namespace: str
    attempts: dict[str, Attempt] = field(default_factory=dict)
    order: list[Attempt] = field(default_factory=list)
    """Every Job in the order in which it was created."""
    live: int = 0
    most_live: dict[str, int] = field(default_factory=dict)
    """The most Jobs at once that had not ended, by the name of the part of the run."""
    raised_at: int | None = None
    """The version in which the limit was raised."""
    ended: set[str] = field(default_factory=set)
    ended_time: float = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def watch_jobs(self, version: str) -> None:
        """Take note of every Job, until cancelled."""
        async for event, body in self.api.watch(JOBS.format(self.namespace), version):
            self._job(event, body)

    async def watch_tasks(self, version: str) -> None:
        """Take note of every task that ends, until cancelled."""
        async for _, body in self.api.watch(TASKS.format(self.namespace), version):
            name = body["metadata"]["name"]
            if body["status"]["phase"] in ("Succeeded", "Failed", "Cancelled") and name not in self.ended:
                self.ended.add(name)
                self.ended_time = asyncio.get_running_loop().time()
                self.changed.set()

    def _job(self, event: str, body: Body) -> None:
        meta, now = body["metadata"], asyncio.get_running_loop().time()
        version = int(meta["resourceVersion"])
        found = self.attempts.get(meta["uid"])
        if found is None:
            labels = meta["labels"]
            found = Attempt(labels["asyncflow.dev/task"], int(labels["asyncflow.dev/attempt"]), version, now)
            self.attempts[meta["uid"]] = found
            self.order.append(found)
            self.live += 1
            part = "low" if self.raised_at is None or version < self.raised_at else "high"
            self.most_live[part] = max(self.most_live.get(part, 0), self.live)
        conditions = body.get("status", {}).get("conditions") or ()
        over = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
        if found.ended is None and (over or event == "DELETED"):
            found.ended = now
            self.live -= 1

    async def until_ended(self, tasks: int, *, seconds: float) -> None:
        """Wait until so many tasks have ended.

        Raises:
            TimeoutError: they have not.
        """
        async with asyncio.timeout(seconds):
            while len(self.ended) < tasks:
                self.changed.clear()
                await self.changed.wait()
