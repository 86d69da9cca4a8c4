"""Those who wait, in order: by priority (the higher first), then by the time since when they are due."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

Rank = tuple[int, datetime, str, str]


def rank(priority: int, since: datetime, name: str, uid: str) -> Rank:
    """Return the place of a task in the order: the smaller goes first."""
    return -priority, since, name, uid


@dataclass(slots=True)
class PriorityQueue:
    """Tasks by rank. Every operation costs O(log n); an entry that was moved or has left is skipped."""

    _ranks: dict[str, Rank] = field(default_factory=dict)
    _heap: list[Rank] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._ranks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranks)

    def __contains__(self, uid: str) -> bool:
        return uid in self._ranks

    def put(self, uid: str, place: Rank) -> bool:
        """Let a task wait, or change its place; tell whether that was news."""
        if self._ranks.get(uid) == place:
            return False
        self._ranks[uid] = place
        heapq.heappush(self._heap, place)
        if len(self._heap) > 2 * len(self._ranks) + 64:
            self._heap = list(self._ranks.values())
            heapq.heapify(self._heap)
        return True

    def discard(self, uid: str) -> None:
        """Let a task wait no longer."""
        self._ranks.pop(uid, None)

    def first(self) -> str | None:
        """Return who is next, if anyone waits."""
        while self._heap:
            place = self._heap[0]
            if self._ranks.get(place[-1]) == place:
                return place[-1]
            heapq.heappop(self._heap)
        return None

    def oldest(self) -> datetime | None:
        """Return since when the one is due that is due longest, whatever its place."""
        return min((since for _, since, _, _ in self._ranks.values()), default=None)

    def pop(self) -> Rank | None:
        """Take out who is next, if anyone waits; return the place, which names the task."""
        uid = self.first()
        if uid is None:
            return None
        del self._ranks[uid]
        return heapq.heappop(self._heap)
