"""The tasks of one type: how many are in each phase and shard, which ended when, which failed in a row.

Kept up to date by each change of a task, at O(log n), so that nobody has to go through all of them: what a
governor asks costs the same whether a type has no finished tasks or a hundred thousand.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime

from asyncflow.api.asynctask import AsyncTask, Phase

Ending = tuple[datetime, str]
"""When a task ended, in whole seconds, and its name: the order of ending."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is counted of a task."""

    phase: Phase
    shard: int | None
    """None as long as nothing was written of it."""
    ending: Ending | None

    @classmethod
    def of(cls, task: AsyncTask) -> "Entry":
        """Return what is counted of a task."""
        status = task.status
        ended = status.completion_time if status.phase.terminal else None
        return cls(status.phase, status.shard, (ended, task.metadata.name) if ended else None)


@dataclass(slots=True)
class Census:
    """The tasks of one type that are there."""

    tripped: str = ""
    """Why the type has suspended itself, from the first sight of it until a person resumes it."""
    last_success: Ending | None = None
    """The end of the last task that succeeded; failures before it are not in a row any more."""
    _since: Ending | None = None
    """Failures until then are not counted at all: the type was made, or resumed by a person, after them."""
    _entries: dict[str, Entry] = field(default_factory=dict)
    _phases: Counter[Phase] = field(default_factory=Counter)
    _open: dict[str, None] = field(default_factory=dict)
    _members: Counter[int] = field(default_factory=Counter)
    _open_members: Counter[int] = field(default_factory=Counter)
    _in_a_row: dict[str, Ending] = field(default_factory=dict)
    _in_all: dict[str, Ending] = field(default_factory=dict)
    _endings: dict[Phase, list[tuple[Ending, str]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._entries)

    # What changes

    def put(self, uid: str, entry: Entry) -> None:
        """Count a task as it is now."""
        old = self._entries.get(uid)
        if old is not None and old.shard is not None and entry.shard is None and not entry.phase.terminal:
            entry = replace(entry, shard=old.shard)  # its record is on its way
        if old == entry:
            return
        if old is not None:
            self._discount(uid, old)
        self._entries[uid] = entry
        self._count(uid, entry)

    def drop(self, uid: str) -> None:
        """Count a task no more: it was deleted."""
        entry = self._entries.pop(uid, None)
        if entry is not None:
            self._discount(uid, entry)

    def assign(self, uid: str, shard: int) -> None:
        """Count a task to a shard from the moment when that is about to be written."""
        entry = self._entries.get(uid)
        if entry is not None and entry.shard is None:
            self.put(uid, replace(entry, shard=shard))

    def succeeded(self, ending: Ending) -> None:
        """Let failures that ended until then not be in a row any more: a task succeeded."""
        if self.last_success is None or self.last_success < ending:
            self.last_success = ending
            _forget_until(self._in_a_row, ending)

    def count_from(self, ending: Ending) -> None:
        """Let failures that ended until then not count at all."""
        if self._since is None or self._since < ending:
            self._since = ending
            _forget_until(self._in_a_row, ending)
            _forget_until(self._in_all, ending)

    def _count(self, uid: str, entry: Entry) -> None:
        self._phases[entry.phase] += 1
        if not entry.phase.terminal:
            self._open[uid] = None
        if entry.shard is not None:
            self._members[entry.shard] += 1
            self._open_members[entry.shard] += not entry.phase.terminal
        if entry.ending is None:
            return
        heap = self._endings.setdefault(entry.phase, [])
        heapq.heappush(heap, (entry.ending, uid))
        if len(heap) > 2 * len(self._entries) + 64:
            self._endings[entry.phase] = self._rebuilt(entry.phase)
        if entry.phase is Phase.SUCCEEDED:
            self.succeeded(entry.ending)
        elif entry.phase is Phase.FAILED:
            self._count_failure(uid, entry.ending)

    def _count_failure(self, uid: str, ending: Ending) -> None:
        if self._since is not None and ending <= self._since:
            return
        self._in_all[uid] = ending
        if self.last_success is None or self.last_success < ending:
            self._in_a_row[uid] = ending

    def _rebuilt(self, phase: Phase) -> list[tuple[Ending, str]]:
        return sorted((e.ending, uid) for uid, e in self._entries.items() if e.phase is phase and e.ending)

    def _discount(self, uid: str, entry: Entry) -> None:
        self._phases[entry.phase] -= 1
        self._open.pop(uid, None)
        self._in_a_row.pop(uid, None)
        self._in_all.pop(uid, None)
        if entry.shard is not None:
            self._members[entry.shard] -= 1
            self._open_members[entry.shard] -= not entry.phase.terminal
            if not self._members[entry.shard]:
                del self._members[entry.shard], self._open_members[entry.shard]

    # What is asked

    def phase(self, phase: Phase) -> int:
        """Return how many tasks are in a phase."""
        return self._phases[phase]

    def entry(self, uid: str) -> Entry | None:
        """Return what is counted of a task."""
        return self._entries.get(uid)

    def open(self) -> list[str]:
        """Return the tasks that have not ended."""
        return list(self._open)

    def members(self, shard: int) -> int:
        """Return how many tasks belong to a shard."""
        return self._members[shard]

    def open_members(self, shard: int) -> int:
        """Return how many tasks of a shard have not ended."""
        return self._open_members[shard]

    @property
    def failures_in_a_row(self) -> int:
        """How many tasks have failed since the last success, in order of ending."""
        return len(self._in_a_row)

    @property
    def failures_in_all(self) -> int:
        """How many of the tasks that are there have failed since the type was made or last resumed."""
        return len(self._in_all)

    def ended_before(self, phase: Phase, moment: datetime, most: int) -> list[tuple[Ending, str]]:
        """Return tasks that are in a terminal phase since before a moment, the first to end first.

        Each that is returned costs O(log n); whoever ended later costs nothing.
        """
        heap = self._endings.get(phase, [])
        found: dict[str, tuple[Ending, str]] = {}
        while heap and heap[0][0][0] < moment and len(found) < most:
            ending, uid = heapq.heappop(heap)
            entry = self._entries.get(uid)
            if entry is not None and (entry.phase, entry.ending) == (
                phase,
                ending,
            ):  # else: a new run began since
                found[uid] = (ending, uid)
        for item in found.values():
            heapq.heappush(heap, item)
        return list(found.values())


def _forget_until(failures: dict[str, Ending], ending: Ending) -> None:
    for uid in [uid for uid, failed in failures.items() if failed <= ending]:
        del failures[uid]
