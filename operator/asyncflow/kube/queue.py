"""The keyed work queue: each key is worked on by one worker at a time, and again if it was added meanwhile.

The contract is that of client-go's workqueue: a key that is added many times before its turn is done once; a
key whose work failed comes back after a growing pause.
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


class Requeue(Exception):
    """The work could not be done now; nothing is wrong that a person should read of."""


class WorkQueue:
    """Keys to work on, and the workers."""

    def __init__(
        self, work: Callable[[str], Awaitable[None]], *, workers: int, clock: Callable[[], datetime]
    ) -> None:
        self._work = work
        self._workers = workers
        self._alarms = Alarms(self.add, clock)
        self._queue: deque[str] = deque()
        self._queued: set[str] = set()
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._some = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, key: str) -> None:
        """Have the key worked on, as soon as a worker is free."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._working:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._queue.append(key)
            self._some.set()
            self._idle.clear()

    def add_at(self, key: str, moment: datetime | None) -> None:
        """Have the key worked on at a moment, instead of the one that was set before; None clears it."""
        self._alarms.set(key, moment)

    def add_due(self) -> None:
        """Add the keys whose moment has come; `run` does so by itself."""
        self._alarms.ring_due()

    @property
    def waiting(self) -> list[str]:
        """The keys that no worker has taken up, in their order."""
        return list(self._queue)

    def take(self, key: str) -> None:
        """Take a key out of the queue, for the caller to work on."""
        self._queue.remove(key)
        self._queued.discard(key)

    async def run(self) -> None:
        """Work until `stop` is called; then end what is in flight and return."""
        alarms = asyncio.create_task(self._alarms.run(), name="alarms")
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._worker(), name=f"worker-{number}")
        finally:
            alarms.cancel()

    def stop(self) -> None:
        """Take up no more work."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._some.set()

    async def idle(self) -> None:
        """Wait until nothing is queued and nothing in flight."""
        await self._idle.wait()

    async def _worker(self) -> None:
        while not self._stopping:
            if not self._queue:
                self._some.clear()
                await self._some.wait()
                continue
            key = self._queue.popleft()
            self._queued.discard(key)
            self._working.add(key)
            try:
                await self._work(key)
            except NotLeading as reason:
                logger.debug("not leading, requeued: %s", reason, extra={"key": key})
                self._later(key)
            except Requeue as reason:
                logger.debug("requeued: %s", reason, extra={"key": key})
                self._later(key)
            except (ApiError, ApiUnreachable) as error:
                logger.warning("failed to reconcile %s, requeued: %s", key, error, extra={"key": key})
                self._later(key, getattr(error, "retry_after", None) or 0)
            except Exception:
                logger.exception("failed to reconcile %s", key, extra={"key": key})
                self._later(key)
            else:
                self._failures.pop(key, None)
            self._working.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            if not self._queue and not self._working:
                self._idle.set()

    def _later(self, key: str, at_least: float = 0) -> None:
        if self._stopping:
            return
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures, 16)) * random.uniform(0.5, 1)
        self._timers[key] = asyncio.get_running_loop().call_later(max(pause, at_least), self._due, key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)
