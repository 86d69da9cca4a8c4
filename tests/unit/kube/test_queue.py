"""The work queue and the alarms."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from asyncflow.controller.clock import utc_now
from asyncflow.kube.alarms import Alarms
from asyncflow.kube.queue import Requeue, WorkQueue

LIMIT = 10


class LeaderTerm:
    """Work that can be held up and told to fail."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.busy: set[str] = set()
        self.failures: dict[str, int] = {}
        self.begun = asyncio.Event()
        self.succeeded = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, key: str) -> None:
        assert key not in self.busy, "two workers on one key"
        self.busy.add(key)
        self.begun.set()
        await self.go.wait()
        await asyncio.sleep(0)
        self.busy.discard(key)
        if self.failures.get(key, 0):
            self.failures[key] -= 1
            raise Requeue
        self.done.append(key)
        self.succeeded.set()


@pytest.fixture
async def work() -> LeaderTerm:
    return LeaderTerm()


@pytest.fixture
async def queue(work: LeaderTerm) -> AsyncIterator[WorkQueue]:
    made = WorkQueue(work, workers=4, clock=utc_now)
    running = asyncio.create_task(made.run())
    yield made
    made.stop()
    await asyncio.wait_for(running, LIMIT)


async def test_a_key_added_many_times_is_worked_on_once(queue: WorkQueue, work: LeaderTerm) -> None:
    for _ in range(10):
        queue.add("a")
    await asyncio.wait_for(queue.idle(), LIMIT)
    assert work.done == ["a"]


async def test_a_key_added_while_it_is_worked_on_comes_again(queue: WorkQueue, work: LeaderTerm) -> None:
    work.go.clear()
    queue.add("a")
    await asyncio.wait_for(work.begun.wait(), LIMIT)
    queue.add("a")
    queue.add("a")
    work.go.set()
    await asyncio.wait_for(queue.idle(), LIMIT)
    assert work.done == ["a", "a"]


async def test_work_that_failed_comes_back(queue: WorkQueue, work: LeaderTerm) -> None:
    work.failures["a"] = 2
    queue.add("a")
    await asyncio.wait_for(work.succeeded.wait(), LIMIT)
    assert work.done == ["a"]


async def test_a_stop_finishes_what_is_under_way_and_takes_up_nothing(work: LeaderTerm) -> None:
    queue = WorkQueue(work, workers=1, clock=utc_now)
    running = asyncio.create_task(queue.run())
    work.go.clear()
    queue.add("a")
    queue.add("b")
    await asyncio.wait_for(work.begun.wait(), LIMIT)
    queue.stop()
    work.go.set()
    await asyncio.wait_for(running, LIMIT)
    assert work.done == ["a"]


async def test_alarms_ring_in_order_and_only_at_their_last_moment() -> None:
    rung: list[str] = []
    done = asyncio.Event()

    def ring(key: str) -> None:
        rung.append(key)
        if key == "last":
            done.set()

    alarms = Alarms(ring, utc_now)
    now = utc_now()
    running = asyncio.create_task(alarms.run())
    alarms.set("last", now + timedelta(seconds=0.09))
    alarms.set("moved", now + timedelta(seconds=0.01))
    alarms.set("moved", now + timedelta(seconds=0.06))
    alarms.set("first", now + timedelta(seconds=0.03))
    alarms.set("cleared", now + timedelta(seconds=0.02))
    alarms.set("cleared", None)
    await asyncio.wait_for(done.wait(), LIMIT)
    running.cancel()
    assert rung == ["first", "moved", "last"]
    assert len(alarms) == 0


async def test_an_alarm_that_is_set_again_and_again_takes_no_room() -> None:
    alarms, now = Alarms(lambda _: None, utc_now), utc_now()
    tracemalloc.start()
    try:
        for n in range(10_000):
            alarms.set("a", now + timedelta(seconds=60 + n))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 40_000, "bytes of two hundred moments, not of ten thousand"
    assert len(alarms) == 1
