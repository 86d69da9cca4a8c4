"""A queue of tasks: higher priority first, then the task that has been due longest."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

Rank = tuple[int, datetime, str, str]


def rank(priority: int, since: datetime, name: str, uid: str) -> Rank:
    """Return the rank of a task: the smallest goes first."""
    return -priority, since, name, uid


@dataclass(slots=True)
class PriorityQueue:
    """Tasks by rank. Adding and removing a task costs O(log n), amortized.

    Removed tasks and former ranks stay in the heap and are skipped.
    """

    _ranks: dict[str, Rank] = field(default_factory=dict)
    _heap: list[Rank] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._ranks)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ranks)

    def __contains__(self, uid: str) -> bool:
        return uid in self._ranks

    def put(self, uid: str, rank: Rank) -> bool:
        """Add a task or change its rank; return whether anything changed."""
        if self._ranks.get(uid) == rank:
            return False
        self._ranks[uid] = rank
        heapq.heappush(self._heap, rank)
        if len(self._heap) > 2 * len(self._ranks) + 64:
            self._heap = list(self._ranks.values())
            heapq.heapify(self._heap)
        return True

    def discard(self, uid: str) -> None:
        """Remove a task, if it is queued."""
        self._ranks.pop(uid, None)

    def first(self) -> str | None:
        """Return the first task; None if the queue is empty."""
        while self._heap:
            rank = self._heap[0]
            if self._ranks.get(rank[-1]) == rank:
                return rank[-1]
            heapq.heappop(self._heap)
        return None

    def oldest(self) -> datetime | None:
        """Return the earliest due time of the queued tasks, if there are any; O(n)."""
        return min((since for _, since, _, _ in self._ranks.values()), default=None)

    def pop(self) -> Rank | None:
        """Remove the first task; return its rank, which ends with its uid, or None if the queue is empty."""
        uid = self.first()
        if uid is None:
            return None
        del self._ranks[uid]
        return heapq.heappop(self._heap)
