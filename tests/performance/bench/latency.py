"""How long a task waits for its Job, and for its record after the Job is over, when little else is to do."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from performance.bench.sides import AsyncTasks
from performance.environment import Environment
from performance.observer import Observer
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


def quantiles(runs: Sequence[Latencies]) -> dict[str, list[float]]:
    """Return the median and the 99th percentile of both latencies, one for each run, by the figure's name."""
    return {
        f"{name}_{word}_ms": [quantile(getattr(run, name), share) for run in runs]
        for name in ("create_to_job", "end_to_succeeded")
        for share, word in ((0.5, "median"), (0.99, "p99"))
    }


async def run_latency(environment: Environment, tasks: int) -> Latencies:
    """Create so many tasks, ten a second, and see when each comes forward."""
    namespace, api, side = await environment.new_namespace(), environment.api, AsyncTasks()
    with environment.operator():
        await side.prepare(api, namespace)
        async with Observer.watch(api, namespace, JOBS, TASKS) as observer:
            created = await _create_in_time(api, side, namespace, tasks)
            await observer.until_ended(JOBS, tasks)
            await observer.until_ended(TASKS, tasks)
        wrong = await side.wrong(api, namespace, tasks)
        await api.send("DELETE", f"/api/v1/namespaces/{namespace}")
    started = {job.task: job.created for job in observer.jobs.values()}
    ended = {job.task: job.ended for job in observer.jobs.values() if job.ended is not None}
    return Latencies(
        [1000 * (started[name] - sent) for name, sent in created.items()],
        [1000 * (observer.task_ends[name] - ended[name]) for name in created],
        wrong,
    )


async def _create_in_time(api: AdminApi, side: AsyncTasks, namespace: str, tasks: int) -> dict[str, float]:
    """Create tasks at a steady pace; return when each was sent, by name."""
    created: dict[str, float] = {}
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            await asyncio.sleep(max(0, began + number / PER_SECOND - time.monotonic()))
            body = side.body(number)
            created[body["metadata"]["name"]] = time.monotonic()
            group.create_task(api.send("POST", TASKS.format(namespace), body))
    return created
