"""What the API server reports of Jobs and AsyncTasks, and when: nothing is asked of the operator."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from performance.progress import LIMIT_SECONDS
from support.admin_api import JOBS, TASKS, AdminApi, Body

ENDED_PHASES = ("Succeeded", "Failed", "Cancelled")


@dataclass
class ObservedJob:
    """One Job. Versions are the API server's, one order for all objects; times are monotonic."""

    name: str
    task: str
    """The name of its task; empty for a Job that no operator made."""
    attempt: int
    created_version: int
    created: float
    ended_version: int | None = None
    ended: float | None = None
    succeeded: bool = False


class Observer:
    """The Jobs and tasks of one namespace, as they come and go; made by `watch`."""

    def __init__(self, on_job_end: Callable[[ObservedJob], None] | None = None) -> None:
        self.jobs: dict[str, ObservedJob] = {}
        """By uid, in the order in which they were created."""
        self.task_ends: dict[str, float] = {}
        """When each task was first seen in a terminal phase, by name."""
        self._ended: Counter[str] = Counter()
        self._on_job_end = on_job_end
        self._changed = asyncio.Event()
        self._watches: list[asyncio.Task[None]] = []

    @classmethod
    @asynccontextmanager
    async def watch(
        cls,
        api: AdminApi,
        namespace: str,
        *collections: str,
        on_job_end: Callable[[ObservedJob], None] | None = None,
    ) -> AsyncIterator["Observer"]:
        """Watch from now on until the end of the context.

        Args:
            api: the way to the API server.
            namespace: what is watched of it.
            collections: `JOBS`, `TASKS` or both; each watch costs the API server CPU.
            on_job_end: called once for each Job when it is over.
        """
        observer = cls(on_job_end)
        try:
            for collection in collections:
                path = collection.format(namespace)
                handle = observer.take_job if collection == JOBS else observer.take_task
                watching = asyncio.create_task(_follow(api, path, await api.version(path), handle))
                watching.add_done_callback(lambda _: observer._changed.set())
                observer._watches.append(watching)
            yield observer
            observer._raise_failure()
        finally:
            for watching in observer._watches:
                watching.cancel()
            await asyncio.gather(*observer._watches, return_exceptions=True)

    async def until_ended(
        self, collection: str, number: int, *, stalled_seconds: float = LIMIT_SECONDS
    ) -> None:
        """Wait until so many objects of a watched collection have ended.

        A slow machine may take as long as it needs, as long as one after the other ends.

        Raises:
            TimeoutError: no further one has ended for so many seconds.
            Exception: what has ended a watch.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(stalled_seconds) as limit:
            while (ended := self._ended[collection]) < number:
                self._raise_failure()
                self._changed.clear()
                await self._changed.wait()
                if self._ended[collection] > ended:
                    limit.reschedule(loop.time() + stalled_seconds)

    def take_job(self, event: str, body: Body) -> None:
        """Record what a watch event says of a Job."""
        meta, now = body["metadata"], time.monotonic()
        version = int(meta["resourceVersion"])
        job = self.jobs.get(meta["uid"])
        if job is None:
            labels = meta.get("labels", {})
            task, attempt = labels.get("asyncflow.dev/task", ""), int(labels.get("asyncflow.dev/attempt", 0))
            job = self.jobs[meta["uid"]] = ObservedJob(meta["name"], task, attempt, version, now)
        if job.ended is None and (event == "DELETED" or has_condition(body, "Complete", "Failed")):
            job.ended, job.ended_version, job.succeeded = now, version, has_condition(body, "Complete")
            self._count(JOBS)
            if self._on_job_end:
                self._on_job_end(job)

    def take_task(self, event: str, body: Body) -> None:
        """Record what a watch event says of a task."""
        name = body["metadata"]["name"]
        if name not in self.task_ends and body.get("status", {}).get("phase") in ENDED_PHASES:
            self.task_ends[name] = time.monotonic()
            self._count(TASKS)

    def _raise_failure(self) -> None:
        for watching in self._watches:
            if watching.done():
                watching.result()

    def _count(self, collection: str) -> None:
        self._ended[collection] += 1
        self._changed.set()


def has_condition(body: Body, *condition_types: str) -> bool:
    """Tell whether an object has one of these conditions with the status True."""
    conditions = body.get("status", {}).get("conditions") or ()
    return any(c["type"] in condition_types and c["status"] == "True" for c in conditions)


async def _follow(api: AdminApi, path: str, version: str, handle: Callable[[str, Body], None]) -> None:
    async for event, body in api.watch(path, version):
        handle(event, body)
