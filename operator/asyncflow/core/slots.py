"""How many may run: at most so many live attempts of a type, the others in order."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from asyncflow.core.line import Line, Rank


@dataclass(slots=True)
class Slots:
    """Slots of one type. The limit is exact: a slot is taken before a Job is made and freed after its end."""

    limit: int = 0
    live: set[str] = field(default_factory=set)
    granted: set[str] = field(default_factory=set)
    """Tasks that hold a slot and have not used it yet."""
    _line: Line = field(default_factory=Line)
    _expected: set[str] = field(default_factory=set)

    @property
    def waiting(self) -> int:
        """How many tasks wait for a slot."""
        return len(self._line)

    def expect(self, uids: Iterable[str]) -> None:
        """Grant nothing until each of these tasks has had its say: of many, the first in order goes first.

        So it is after a start, and when a type changes.
        """
        self._expected.update(uids)

    def settle(self, uid: str) -> list[str]:
        """Note that a task has had its say; return the tasks that hold a new slot now."""
        if uid not in self._expected:
            return []
        self._expected.discard(uid)
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
        if uid in self.granted or not self._line.put(uid, place):
            return []
        return self._grant()

    def occupy(self, uid: str) -> None:
        """Count a live attempt that is there, even beyond the limit; it waits no longer."""
        self._line.discard(uid)
        self.granted.discard(uid)
        self.live.add(uid)

    def leave(self, uid: str) -> list[str]:
        """Give up slot and place; return the tasks that hold a new slot now."""
        self._line.discard(uid)
        self.live.discard(uid)
        self.granted.discard(uid)
        return self._grant()

    def _grant(self) -> list[str]:
        started: list[str] = []
        while not self._expected and len(self.live) + len(self.granted) < self.limit:
            uid = self._line.pop()
            if uid is None:
                break
            self.granted.add(uid)
            started.append(uid)
        return started
