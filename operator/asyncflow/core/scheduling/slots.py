"""The concurrency limit of a TaskType: one slot per live attempt; the other tasks wait in order."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from asyncflow.core.scheduling.priority_queue import PriorityQueue, Rank


@dataclass(slots=True)
class Slots:
    """The slots of one type.

    The limit is exact: a slot is taken before the Job is created, and freed after the attempt has ended.
    """

    limit: int = 0
    live: set[str] = field(default_factory=set)
    granted: dict[str, Rank] = field(default_factory=dict)
    """Tasks that hold a slot and have not used it yet, with their ranks: the slot may be revoked."""
    starting: set[str] = field(default_factory=set)
    """Tasks whose create request was sent: the Job may exist even if no watch event has shown it yet."""
    _queue: PriorityQueue = field(default_factory=PriorityQueue)
    _expected: set[str] = field(default_factory=set)

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return len(self.live) + len(self.granted) + len(self.starting)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a slot."""
        return len(self._queue)

    def waiting_since(self) -> datetime | None:
        """Return the earliest due time of the tasks that wait for a slot, if there are any; O(n)."""
        return self._queue.oldest()

    def expect(self, uids: Iterable[str]) -> None:
        """Grant nothing until each of these tasks was evaluated, so that slots are granted in order.

        Called at the start of a term, and when a type changes.
        """
        self._expected.update(uids)

    def mark_evaluated(self, uid: str) -> list[str]:
        """Record that a task was evaluated; return the tasks that were granted a slot."""
        if uid not in self._expected:
            return []
        self._expected.discard(uid)
        return self._grant()

    def set_limit(self, limit: int) -> list[str]:
        """Change the limit; return the tasks that were granted a slot.

        If too many slots are taken now, unused ones are revoked, the last in order first.
        """
        self.limit = limit
        while self.granted and self.taken > limit:
            last = max(self.granted, key=self.granted.__getitem__)
            self._queue.put(last, self.granted.pop(last))
        return self._grant()

    def offer(self, uid: str, rank: Rank) -> list[str]:
        """Add a task without a live attempt to the queue for a slot, or change its rank.

        Returns:
            The tasks that were granted a slot.
        """
        self.live.discard(uid)
        if self.holds(uid) or not self._queue.put(uid, rank):
            return []
        return self._grant()

    def holds(self, uid: str) -> bool:
        """Return whether a task holds a slot for its next attempt."""
        return uid in self.granted or uid in self.starting

    def begin(self, uid: str) -> None:
        """Use a granted slot: from now on it can't be revoked."""
        if uid in self.granted:
            del self.granted[uid]
            self.starting.add(uid)

    def occupy(self, uid: str) -> None:
        """Record a live attempt of a task, even beyond the limit; the task no longer waits."""
        self._queue.discard(uid)
        self.granted.pop(uid, None)
        self.starting.discard(uid)
        self.live.add(uid)

    def leave(self, uid: str) -> list[str]:
        """Release the slot or leave the queue; return the tasks that were granted a slot."""
        self._queue.discard(uid)
        self.live.discard(uid)
        self.granted.pop(uid, None)
        self.starting.discard(uid)
        return self._grant()

    def _grant(self) -> list[str]:
        granted: list[str] = []
        while not self._expected and self.taken < self.limit:
            rank = self._queue.pop()
            if rank is None:
                break
            self.granted[rank[-1]] = rank
            granted.append(rank[-1])
        return granted
