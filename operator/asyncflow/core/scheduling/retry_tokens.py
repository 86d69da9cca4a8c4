"""Retry tokens withdrawn from a TaskType's budget, and the retries that wait for one."""

from dataclasses import dataclass, field

from asyncflow.core.scheduling.priority_queue import PriorityQueue, Rank


@dataclass(slots=True)
class RetryTokens:
    """Tokens that were withdrawn from the retry budget of one type, and the queue for more."""

    reserve: int = 0
    """Tokens that were withdrawn and not granted yet."""
    first_attempts: int = 0
    """First attempts that have not been paid into the budget yet."""
    granted: set[str] = field(default_factory=set)
    """Tasks that hold a token and have not used it yet."""
    _queue: PriorityQueue = field(default_factory=PriorityQueue)
    _reported: set[str] = field(default_factory=set)

    @property
    def waiting(self) -> list[str]:
        """The tasks whose retries wait for a token."""
        return list(self._queue)

    def request(self, uid: str, rank: Rank) -> bool:
        """Request a token; return whether the task holds one now."""
        if uid not in self.granted:
            self._queue.put(uid, rank)
            self._grant()
        return uid in self.granted

    def newly_waiting(self) -> list[str]:
        """Return the waiting tasks that were not returned before: their statuses do not show it yet."""
        found = [uid for uid in self._queue if uid not in self._reported]
        self._reported.update(found)
        return found

    def add(self, tokens: int) -> list[str]:
        """Add withdrawn tokens; return the tasks that got one."""
        self.reserve += tokens
        return self._grant()

    def use(self, uid: str) -> None:
        """Consume the task's token, if it holds one."""
        self._queue.discard(uid)
        self._reported.discard(uid)
        self.granted.discard(uid)

    def leave(self, uid: str) -> list[str]:
        """Cancel the request and put an unused token back into the reserve; return the tasks that got one."""
        self._queue.discard(uid)
        self._reported.discard(uid)
        if uid not in self.granted:
            return []
        self.granted.discard(uid)
        return self.add(1)

    def _grant(self) -> list[str]:
        granted = []
        while self.reserve and (rank := self._queue.pop()) is not None:
            uid = rank[-1]
            self.reserve -= 1
            self._reported.discard(uid)
            self.granted.add(uid)
            granted.append(uid)
        return granted
