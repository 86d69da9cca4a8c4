"""The work queue: keys are processed concurrently, but each key by one worker at a time.

The contract is that of client-go's ``workqueue``: a key that is added several times before it is processed is
processed once; a key that is added while it is processed is processed again; a key that failed is requeued
with exponential backoff.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime

from asyncflow.kube.alarms import Alarms
from asyncflow.kube.client import ApiError, ApiUnreachable, NotLeading

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 60.0
"""Backoff of a key that failed, in seconds: the first pause, and the maximum."""


class Requeue(Exception):
    """The key cannot be processed now and is requeued. Not an error: logged at debug level only."""


class WorkQueue:
    """A queue of keys, with its workers.

    Args:
        work: processes a key; a key for which it raises is requeued with backoff.
        workers: how many keys are processed concurrently.
        clock: the current time, with its time zone.
    """

    def __init__(
        self, work: Callable[[str], Awaitable[None]], *, workers: int, clock: Callable[[], datetime]
    ) -> None:
        self._work = work
        self._workers = workers
        self._alarms = Alarms(self.add, clock)
        self._queue: deque[str] = deque()
        self._queued: set[str] = set()
        self._processing: set[str] = set()
        self._dirty: set[str] = set()
        """Keys that were added while they are processed."""
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._not_empty = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, key: str) -> None:
        """Add a key, to be processed as soon as a worker is free."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._processing:
            self._dirty.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._queue.append(key)
            self._not_empty.set()
            self._idle.clear()

    def add_at(self, key: str, moment: datetime | None) -> None:
        """Add a key at a later time, which replaces the one set before; None clears it."""
        self._alarms.set(key, moment)

    def add_due(self) -> None:
        """Add the keys whose time has come. `run` does this itself; for callers that do not use it."""
        self._alarms.fire_due()

    @property
    def waiting(self) -> list[str]:
        """The keys that are queued and not processed yet, in order."""
        return list(self._queue)

    def take(self, key: str) -> None:
        """Remove a key from the queue, for the caller to process."""
        self._queue.remove(key)
        self._queued.discard(key)

    async def run(self) -> None:
        """Process keys until `stop` is called; then finish those in flight and return."""
        alarms = asyncio.create_task(self._alarms.run(), name="alarms")
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._worker(), name=f"worker-{number}")
        finally:
            alarms.cancel()

    def stop(self) -> None:
        """Start processing no more keys; `run` returns when those in flight are finished."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._not_empty.set()

    async def idle(self) -> None:
        """Wait until no key is queued or processed."""
        await self._idle.wait()

    async def _worker(self) -> None:
        while not self._stopping:
            if not self._queue:
                self._not_empty.clear()
                await self._not_empty.wait()
                continue
            key = self._queue.popleft()
            self._queued.discard(key)
            self._processing.add(key)
            try:
                await self._work(key)
            except NotLeading as reason:
                logger.debug("not leading, requeued: %s", reason, extra={"key": key})
                self._add_after_backoff(key)
            except Requeue as reason:
                logger.debug("requeued: %s", reason, extra={"key": key})
                self._add_after_backoff(key)
            except (ApiError, ApiUnreachable) as error:
                logger.warning("failed to reconcile %s, requeued: %s", key, error, extra={"key": key})
                self._add_after_backoff(key, getattr(error, "retry_after", None) or 0)
            except Exception:
                logger.exception("failed to reconcile %s, requeued", key, extra={"key": key})
                self._add_after_backoff(key)
            else:
                self._failures.pop(key, None)
            self._processing.discard(key)
            if key in self._dirty:
                self._dirty.discard(key)
                self.add(key)
            if not self._queue and not self._processing:
                self._idle.set()

    def _add_after_backoff(self, key: str, at_least: float = 0) -> None:
        if self._stopping:
            return
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures, 16)) * random.uniform(0.5, 1)
        self._timers[key] = asyncio.get_running_loop().call_later(
            max(pause, at_least), self._end_backoff, key
        )

    def _end_backoff(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)
