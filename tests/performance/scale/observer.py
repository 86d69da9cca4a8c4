"""What the API server tells of a run, in its own order: from outside, without a word of the operator's."""

import asyncio
from dataclasses import dataclass, field

from support.admin_api import JOBS, TASKS, AdminApi, Body


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

    api: AdminApi
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
