"""What is recorded of the API server's watches, and computed from that."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from performance.observer import ObservedJob, Observer
from performance.scale.timeline import Timeline
from performance.scale.workload import Workload
from support.admin_api import JOBS, TASKS, AdminApi, Body


class FakeApi:
    """An API server's watches: events that a test sends."""

    def __init__(self) -> None:
        self.events: dict[str, asyncio.Queue[tuple[str, Body] | Exception]] = {}

    async def version(self, path: str) -> str:
        self.events[path] = asyncio.Queue()
        return "1"

    async def watch(self, path: str, _: str) -> AsyncIterator[tuple[str, Body]]:
        while True:
            event = await self.events[path].get()
            if isinstance(event, Exception):
                raise event
            yield event


def job_event(version: int, name: str, condition_type: str = "") -> tuple[str, Body]:
    conditions = [{"type": condition_type, "status": "True"}] if condition_type else []
    labels = {"asyncflow.dev/task": name.rpartition("-")[0], "asyncflow.dev/attempt": name.rpartition("-")[2]}
    meta = {"name": name, "uid": name, "resourceVersion": str(version), "labels": labels}
    return "MODIFIED", {"metadata": meta, "status": {"conditions": conditions}}


class TestObserver:
    """What is recorded of the watches."""

    async def test_jobs_and_tasks_are_recorded_once_and_counted_when_they_end(self) -> None:
        api, ended = FakeApi(), list[ObservedJob]()
        watching = Observer.watch(cast("AdminApi", api), "n", JOBS, TASKS, on_job_end=ended.append)
        async with watching as observer:
            jobs, tasks = (api.events[path.format("n")] for path in (JOBS, TASKS))
            for event in (
                job_event(2, "a-1"),
                job_event(3, "a-2"),
                job_event(4, "a-1", "Failed"),
                job_event(5, "a-1", "Failed"),
                job_event(6, "a-2", "Complete"),
            ):
                jobs.put_nowait(event)
            for phase in ("Pending", "Running", "Succeeded"):
                tasks.put_nowait(("MODIFIED", {"metadata": {"name": "a"}, "status": {"phase": phase}}))
            await observer.until_ended(JOBS, 2)
            await observer.until_ended(TASKS, 1)
        first, second = observer.jobs.values()
        assert (first.task, first.attempt, first.created_version, first.ended_version) == ("a", 1, 2, 4)
        assert (second.attempt, second.created_version, second.ended_version) == (2, 3, 6)
        assert (first.succeeded, second.succeeded) == (False, True)
        assert list(observer.task_ends) == ["a"]
        assert ended == [first, second]

    async def test_a_watch_that_fails_ends_the_wait(self) -> None:
        api = FakeApi()

        async def observe() -> None:
            async with Observer.watch(cast("AdminApi", api), "n", JOBS) as observer:
                api.events[JOBS.format("n")].put_nowait(RuntimeError("missed something"))
                await observer.until_ended(JOBS, 1)

        with pytest.raises(RuntimeError, match="missed something"):
            await observe()

    async def test_it_is_given_up_when_no_further_one_ends(self) -> None:
        api, ended = FakeApi(), ("MODIFIED", {"metadata": {"name": "a"}, "status": {"phase": "Failed"}})
        async with Observer.watch(cast("AdminApi", api), "n", TASKS) as observer:
            for _ in range(2):
                api.events[TASKS.format("n")].put_nowait(ended)
            with pytest.raises(TimeoutError):
                await observer.until_ended(TASKS, 2, stalled_seconds=0.01)


def test_the_timeline_has_the_most_jobs_at_once_by_the_limit_of_their_creation() -> None:
    jobs = [
        ObservedJob("t-000042-1", "t-000042", 1, 1, 0.0, 8, 10.0),
        ObservedJob("t-000001-1", "t-000001", 1, 2, 0.0, 3, 1.0),
        ObservedJob("t-000002-1", "t-000002", 1, 4, 1.0, 10, 2.0),
        ObservedJob("t-000007-2", "t-000007", 2, 7, 5.0, None, None),
    ]
    timeline = Timeline(jobs, Workload(100, low_limit=2, high_limit=4), raised_at=6)
    assert timeline.most_at_once() == {"low": 2, "high": 3}
    assert timeline.first_starts() == [("t-000042", 2), ("t-000001", 2), ("t-000002", 2)]
    assert timeline.straggler_seconds() == 10.0 / 2
