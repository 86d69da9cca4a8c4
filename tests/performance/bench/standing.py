"""What an operator takes when many tasks are there of which none can start: to be ready, and to be idle."""

import asyncio
import time
from dataclasses import dataclass
from uuid import uuid4

from performance.environment import Environment
from performance.objects import TASK_TYPE, task_body, task_type_body
from performance.progress import LIMIT_SECONDS, until
from performance.usage import cpu_seconds, memory_kib
from support.admin_api import TASKS, TYPES, AdminApi

BLOCKER = "a-blocker"


@dataclass(frozen=True)
class Standing:
    """One start of an operator that found so many tasks."""

    tasks: int
    ready_seconds: float
    """From the start of the process until its readiness probe says ok."""
    counted_seconds: float
    """From then on until one more task is counted among those that wait: all of them are."""
    memory_kib: int
    """When it had been idle for a while."""
    idle_cpu_percent: float
    """Of one core."""


async def fill(environment: Environment, tasks: int) -> str:
    """Make a type with a limit of 1, a task that holds the slot, and so many tasks that wait for it.

    Returns:
        The namespace.
    """
    namespace, api = await environment.new_namespace(), environment.api
    task_type = task_type_body(
        maxConcurrent=1, deadlines={"attemptSeconds": 36_000, "taskSeconds": 72_000}, maxTasksPerShard=10_000
    )
    await api.send("POST", TYPES.format(namespace), task_type)
    if tasks:
        blocker = task_body(BLOCKER, payload={"hang": True}, priority=100)
        waiting = [task_body(f"w-{number:06}") for number in range(tasks)]
        await api.create(TASKS.format(namespace), [blocker, *waiting])
    return namespace


async def start_operator(
    environment: Environment, namespace: str, tasks: int, *, idle_seconds: float
) -> Standing:
    """Start an operator where so many tasks wait; see how soon it is ready, and what it takes to be idle.

    Raises:
        TimeoutError: it does not count them.
    """
    process = environment.new_operator()
    began = time.monotonic()
    process.start(wait=False)
    try:
        await asyncio.to_thread(process.wait_ready, LIMIT_SECONDS)
        ready = time.monotonic()
        if tasks:
            await _until_counted(environment.api, namespace)
        counted = time.monotonic()
        await asyncio.sleep(min(30, idle_seconds))  # what was there to be read and said is over by then
        used, since = cpu_seconds(process.pid), time.monotonic()
        await asyncio.sleep(idle_seconds)
        percent = 100 * (cpu_seconds(process.pid) - used) / (time.monotonic() - since)
        return Standing(tasks, ready - began, counted - ready, memory_kib(process.pid), percent)
    finally:
        await asyncio.to_thread(process.stop)


async def _until_counted(api: AdminApi, namespace: str) -> None:
    """Create one more task, and wait until it is counted among those that wait."""
    path = f"{TYPES.format(namespace)}/{TASK_TYPE}"
    await api.send("POST", TASKS.format(namespace), task_body(f"x-{uuid4().hex[:8]}"))
    listed = await api.send("GET", TASKS.format(namespace), limit="1")
    there = 1 + listed["metadata"].get("remainingItemCount", 0)

    async def counted() -> bool:
        status = (await api.send("GET", path)).get("status", {})
        return bool(status.get("waiting", 0) == there - 1)

    await until(counted)


async def empty(api: AdminApi, namespace: str) -> None:
    """Delete all of it, and wait until it is gone."""
    await api.send("DELETE", f"/api/v1/namespaces/{namespace}")
    await until(lambda: api.is_empty(TASKS.format(namespace)), seconds=600, every=1)
