"""Keyed timers: one heap of times, one waiting coroutine."""

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime


class Alarms:
    """Calls a function with each key at its time. A key has one time; setting it again replaces it.

    Args:
        fire: called with a key when its time has come.
        clock: the current time, with its time zone.
    """

    def __init__(self, fire: Callable[[str], None], clock: Callable[[], datetime]) -> None:
        self._fire = fire
        self._clock = clock
        self._times: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._times)

    def set(self, key: str, time: datetime | None) -> None:
        """Set the time of a key; None clears it."""
        if time is None:
            self._times.pop(key, None)
        elif self._times.get(key) != time:
            self._times[key] = time
            heapq.heappush(self._heap, (time, key))
            if self._heap[0] == (time, key):
                self._changed.set()
        if len(self._heap) > 2 * len(self._times) + 64:
            self._heap = [(when, name) for name, when in self._times.items()]
            heapq.heapify(self._heap)

    async def run(self) -> None:
        """Fire keys at their times until cancelled."""
        while True:
            self._changed.clear()
            pause = self.fire_due()
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def fire_due(self) -> float | None:
        """Fire all keys that are due; return the seconds until the next one, None if there is none."""
        while self._heap:
            time, key = self._heap[0]
            if self._times.get(key) != time:
                heapq.heappop(self._heap)  # replaced or cleared
                continue
            wait = (time - self._clock()).total_seconds()
            if wait > 0:
                return wait
            heapq.heappop(self._heap)
            del self._times[key]
            self._fire(key)
        return None
