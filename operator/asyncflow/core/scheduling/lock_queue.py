"""Who may have a lockKey: one attempt at a time, the others in order.

As long as the key's Lease is there, its holder has the key, whatever the time: only proof of the holder's
death frees it. A holder without a Job is continued, never overtaken: a create of its Job that was sent may
still arrive.
"""

from dataclasses import dataclass, field

from asyncflow.core.scheduling.priority_queue import PriorityQueue, Rank


@dataclass(slots=True)
class KeyQueue:
    """One key of one namespace."""

    leased: str | None = None
    """The task that holds the Lease."""
    live: set[str] = field(default_factory=set)
    """Tasks of this key that have a live attempt."""
    line: PriorityQueue = field(default_factory=PriorityQueue)

    @property
    def idle(self) -> bool:
        """Whether nobody has to do with the key."""
        return self.leased is None and not self.live and not len(self.line)

    def put(self, uid: str, place: Rank) -> None:
        """Let a task wait for the key."""
        self.live.discard(uid)
        self.line.put(uid, place)

    def occupy(self, uid: str) -> None:
        """Count a live attempt that is there."""
        self.line.discard(uid)
        self.live.add(uid)

    def leave(self, uid: str) -> None:
        """Have no more to do with the key."""
        self.line.discard(uid)
        self.live.discard(uid)

    def next(self) -> str | None:
        """Return who may take the key now: its holder, to go on, or the first in order if it is free."""
        if self.live:
            return None
        if self.leased is not None:
            return self.leased if self.leased in self.line else None
        return self.line.first()
