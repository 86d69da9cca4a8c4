"""The queue for a lockKey: one attempt at a time holds the key, the other tasks wait in order.

As long as the key's Lease exists, its holder has the key, no matter how old it is: only proof of the holder's
death releases it. A holder without a Job may continue, and no other task overtakes it: a create request for
its Job may still be in flight.
"""

from dataclasses import dataclass, field

from asyncflow.core.scheduling.priority_queue import PriorityQueue, Rank


@dataclass(slots=True)
class KeyQueue:
    """The holder of one key in one namespace, and the tasks that wait for it."""

    lease_holder: str | None = None
    """The task that holds the Lease."""
    live: set[str] = field(default_factory=set)
    """Tasks with this key that have a live attempt."""
    queue: PriorityQueue = field(default_factory=PriorityQueue)

    @property
    def idle(self) -> bool:
        """Whether no task holds the key or waits for it."""
        return self.lease_holder is None and not self.live and not len(self.queue)

    def put(self, uid: str, rank: Rank) -> None:
        """Add a task without a live attempt to the queue, or change its rank."""
        self.live.discard(uid)
        self.queue.put(uid, rank)

    def occupy(self, uid: str) -> None:
        """Record a live attempt of a task; it no longer waits."""
        self.queue.discard(uid)
        self.live.add(uid)

    def leave(self, uid: str) -> None:
        """Remove a task that neither has a live attempt nor waits."""
        self.queue.discard(uid)
        self.live.discard(uid)

    def next(self) -> str | None:
        """Return the task that may take the key now: its holder, to continue, or the first if it is free."""
        if self.live:
            return None
        if self.lease_holder is not None:
            return self.lease_holder if self.lease_holder in self.queue else None
        return self.queue.first()
