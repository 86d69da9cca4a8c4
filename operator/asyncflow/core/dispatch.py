"""Who may start: at most so many live attempts of a type, the others in order.

Order is by priority (the higher first), then by the time since when a task is due, then by its uid. Every operation
costs O(log n). No slot is granted before `open`: after a start all waiting tasks are offered first.
"""

import heapq
from dataclasses import dataclass, field
from datetime import datetime

Rank = tuple[int, datetime, str]


def rank(priority: int, since: datetime, uid: str) -> Rank:
    """Return the place of a task in the order: the smaller goes first."""
    return -priority, since, uid


@dataclass(slots=True)
class Slots:
    """The slots of one type. The limit is exact: a slot is taken before a Job is made and freed after its end."""

    limit: int = 0
    live: set[str] = field(default_factory=set)
    granted: set[str] = field(default_factory=set)
    """Tasks that hold a slot and have not used it yet."""
    _ranks: dict[str, Rank] = field(default_factory=dict)
    _heap: list[Rank] = field(default_factory=list)
    opened: bool = False

    @property
    def waiting(self) -> int:
        """How many tasks wait for a slot."""
        return len(self._ranks)

    def open(self) -> list[str]:
        """Start granting; return the tasks that hold a slot now."""
        self.opened = True
        return self._grant()

    def set_limit(self, limit: int) -> list[str]:
        """Change the limit; return the tasks that it lets start."""
        self.limit = limit
        return self._grant()

    def offer(self, uid: str, place: Rank) -> list[str]:
        """Let a task without a live attempt wait for a slot, or change its place.

        Returns:
            The tasks that hold a new slot now.
        """
        self.live.discard(uid)
        if uid in self.granted or self._ranks.get(uid) == place:
            return []
        self._ranks[uid] = place
        heapq.heappush(self._heap, place)
        return self._grant()

    def occupy(self, uid: str) -> None:
        """Count a live attempt that is there, even beyond the limit; it waits no longer."""
        self._ranks.pop(uid, None)
        self.granted.discard(uid)
        self.live.add(uid)

    def leave(self, uid: str) -> list[str]:
        """Give up slot and place; return the tasks that hold a new slot now."""
        self._ranks.pop(uid, None)
        self.live.discard(uid)
        self.granted.discard(uid)
        return self._grant()

    def _grant(self) -> list[str]:
        started: list[str] = []
        while self.opened and self._ranks and len(self.live) + len(self.granted) < self.limit:
            place = heapq.heappop(self._heap)
            uid = place[2]
            if self._ranks.get(uid) == place:  # an entry that was changed or left is passed over
                del self._ranks[uid]
                self.granted.add(uid)
                started.append(uid)
        if len(self._heap) > 2 * len(self._ranks) + 64:
            self._heap = list(self._ranks.values())
            heapq.heapify(self._heap)
        return started
