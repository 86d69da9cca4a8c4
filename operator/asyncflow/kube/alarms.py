"""Delays: one heap of moments, one waiting coroutine."""

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime


class Alarms:
    """Calls a key's name when its moment has come. A key has one moment; setting it again moves it."""

    def __init__(self, ring: Callable[[str], None], clock: Callable[[], datetime]) -> None:
        self._ring = ring
        self._clock = clock
        self._moments: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._moments)

    def set(self, key: str, moment: datetime | None) -> None:
        """Set the key's moment, or clear it."""
        if moment is None:
            self._moments.pop(key, None)
        elif self._moments.get(key) != moment:
            self._moments[key] = moment
            heapq.heappush(self._heap, (moment, key))
            if self._heap[0] == (moment, key):
                self._changed.set()
        if len(self._heap) > 2 * len(self._moments) + 64:
            self._heap = [(when, name) for name, when in self._moments.items()]
            heapq.heapify(self._heap)

    async def run(self) -> None:
        """Ring until cancelled."""
        while True:
            self._changed.clear()
            pause = self.ring_due()
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def ring_due(self) -> float | None:
        """Ring all that are due; return the seconds until the next, None if there is none."""
        while self._heap:
            moment, key = self._heap[0]
            if self._moments.get(key) != moment:
                heapq.heappop(self._heap)  # moved or cleared since
                continue
            wait = (moment - self._clock()).total_seconds()
            if wait > 0:
                return wait
            heapq.heappop(self._heap)
            del self._moments[key]
            self._ring(key)
        return None
