"""How long a task waits for its Job, and for its record after the Job is over, when little else is to do."""

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from performance.bench import Bench
from performance.sides import AsyncTasks, is_complete
from support.admin_api import JOBS, TASKS, AdminApi

PER_SECOND = 10


@dataclass(frozen=True)
class Latencies:
    """In milliseconds, one for each task, as a watcher saw it."""

    create_to_job: Sequence[float]
    """From the sending of the task's create until its Job was there."""
    end_to_succeeded: Sequence[float]
    """From the moment when the Job was seen to be complete until the task was seen to be."""
    wrong: list[str]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


async def run_latency(bench: Bench, tasks: int) -> Latencies:
    """Create so many tasks, ten a second, and see when each comes forward."""
    namespace, side, clock = await bench.new_namespace(), AsyncTasks(), time.monotonic
    created: dict[str, float] = {}
    started: dict[str, float] = {}
    ended: dict[str, float] = {}
    recorded: dict[str, float] = {}
    over = asyncio.Event()

    def note_if_over() -> None:
        if len(recorded) == len(ended) == tasks:
            over.set()

    async def watch_jobs(version: str) -> None:
        async for _, job in bench.api.watch(JOBS.format(namespace), version):
            name = job["metadata"]["labels"]["asyncflow.dev/task"]
            started.setdefault(name, clock())
            if is_complete(job):
                ended.setdefault(name, clock())
                note_if_over()

    async def watch_tasks(version: str) -> None:
        async for _, body in bench.api.watch(TASKS.format(namespace), version):
            if side.done(body):
                recorded.setdefault(body["metadata"]["name"], clock())
                note_if_over()

    with bench.operator():
        await side.prepare(bench.api, namespace)
        watches = []
        for path, watch in ((JOBS, watch_jobs), (TASKS, watch_tasks)):
            watches.append(asyncio.create_task(watch(await bench.api.version(path.format(namespace)))))
        try:
            async with asyncio.timeout(60 + tasks):
                await _create_in_time(bench.api, side, namespace, tasks, created)
                await over.wait()
        finally:
            for watching in watches:
                watching.cancel()
            for watching in watches:
                with suppress(asyncio.CancelledError):
                    await watching
        wrong = await side.wrong(bench.api, namespace, tasks)
        await bench.api.send("DELETE", f"/api/v1/namespaces/{namespace}")
    return Latencies(
        [1000 * (started[name] - created[name]) for name in created],
        [1000 * (recorded[name] - ended[name]) for name in created],
        wrong,
    )


async def _create_in_time(
    api: AdminApi, side: AsyncTasks, namespace: str, tasks: int, created: dict[str, float]
) -> None:
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            await asyncio.sleep(max(0, began + number / PER_SECOND - time.monotonic()))
            body = side.body(number)
            created[body["metadata"]["name"]] = time.monotonic()
            group.create_task(api.send("POST", TASKS.format(namespace), body))
