"""How many may run: at most so many live attempts of a type, the others in order."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from asyncflow.core.scheduling.priority_queue import PriorityQueue, Rank


@dataclass(slots=True)
class Slots:
    """Slots of one type. The limit is exact: a slot is taken before a Job is made and freed after its end."""

    limit: int = 0
    live: set[str] = field(default_factory=set)
    granted: dict[str, Rank] = field(default_factory=dict)
    """Tasks that hold a slot and have not used it yet, each with its place: it may be taken back."""
    starting: set[str] = field(default_factory=set)
    """Tasks whose Job is being made: whatever is heard of it, it may be there."""
    _line: PriorityQueue = field(default_factory=PriorityQueue)
    _expected: set[str] = field(default_factory=set)

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return len(self.live) + len(self.granted) + len(self.starting)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a slot."""
        return len(self._line)

    def waiting_since(self) -> datetime | None:
        """Return since when the task that has waited longest for a slot is due; O(n) of those that wait."""
        return self._line.oldest()

    def expect(self, uids: Iterable[str]) -> None:
        """Grant nothing until each of these tasks was evaluated: of many, the first in order goes first.

        So it is after a start, and when a type changes.
        """
        self._expected.update(uids)

    def settle(self, uid: str) -> list[str]:
        """Note that a task was evaluated; return the tasks that hold a new slot now."""
        if uid not in self._expected:
            return []
        self._expected.discard(uid)
        return self._grant()

    def set_limit(self, limit: int) -> list[str]:
        """Change the limit; return the tasks that it lets start.

        Of slots that were not used yet, as many are taken back as are too many now.
        """
        self.limit = limit
        while self.granted and self.taken > limit:
            last = max(self.granted, key=self.granted.__getitem__)
            self._line.put(last, self.granted.pop(last))
        return self._grant()

    def offer(self, uid: str, place: Rank) -> list[str]:
        """Let a task without a live attempt wait for a slot, or change its place.

        Returns:
            The tasks that hold a new slot now.
        """
        self.live.discard(uid)
        if self.holds(uid) or not self._line.put(uid, place):
            return []
        return self._grant()

    def holds(self, uid: str) -> bool:
        """Tell whether a task holds a slot for the attempt that it is about to make."""
        return uid in self.granted or uid in self.starting

    def begin(self, uid: str) -> None:
        """Use a slot that is held: from now on it can't be taken back."""
        if uid in self.granted:
            del self.granted[uid]
            self.starting.add(uid)

    def occupy(self, uid: str) -> None:
        """Count a live attempt that is there, even beyond the limit; it waits no longer."""
        self._line.discard(uid)
        self.granted.pop(uid, None)
        self.starting.discard(uid)
        self.live.add(uid)

    def leave(self, uid: str) -> list[str]:
        """Give up slot and place; return the tasks that hold a new slot now."""
        self._line.discard(uid)
        self.live.discard(uid)
        self.granted.pop(uid, None)
        self.starting.discard(uid)
        return self._grant()

    def _grant(self) -> list[str]:
        started: list[str] = []
        while not self._expected and self.taken < self.limit:
            place = self._line.pop()
            if place is None:
                break
            self.granted[place[-1]] = place
            started.append(place[-1])
        return started
