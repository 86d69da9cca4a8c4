"""The tasks of one TaskType, counted: by phase, by shard, by time of ending, by failure.

Each change of a task updates the counts at O(log n), so that no rule has to visit all tasks: a governor's
request costs the same whether a type has no finished tasks or a hundred thousand.
"""

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTask, Phase

Ending = tuple[datetime, str]
"""When a task ended, in whole seconds, and its name: the order of ending."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is counted of a task."""

    phase: Phase
    shard: int | None
    """None until its first status write."""
    ending: Ending | None
    deletable: bool = True
    """Whether the task itself does not prevent its deletion: another run is not requested."""
    attempted: bool = True
    """Whether an attempt was made, or another cause than the total deadline ended it: only then is a failure
    one of the type."""

    @classmethod
    def of(cls, task: AsyncTask, *, deletable: bool = True) -> "Entry":
        """Return what is counted of a task."""
        status = task.status
        ended = status.completion_time if status.phase.terminal else None
        attempted = status.reason != reasons.TOTAL_DEADLINE_EXCEEDED or any(
            a.run == (status.run or 1) for a in status.attempts
        )
        ending = (ended, task.metadata.name) if ended else None
        return cls(status.phase, status.shard, ending, deletable, attempted)


@dataclass(frozen=True, slots=True)
class Failures:
    """The failed tasks of a type, as far as they count for its error policy."""

    consecutive: int = 0
    """How many have failed since the last success, in order of ending."""
    total: int = 0
    """How many of the existing ones have failed since the type was created or last resumed."""
    last_success: Ending | None = None
    suspension: str = ""
    """Why the type has suspended itself, as decided by this leader and perhaps not on record yet."""


@dataclass(frozen=True, slots=True)
class Tally:
    """A census at one moment."""

    phases: Mapping[Phase, int]
    members: Mapping[int, int]
    """How many tasks each shard has."""
    unfinished_shards: frozenset[int]
    """Shards with tasks that have not ended."""
    failures: Failures


@dataclass(slots=True)
class Census:
    """The existing tasks of one type. Changes with each of them; rules get a `Tally`."""

    suspension: str = ""
    """Why the type has suspended itself, from the leader's decision until it is resumed."""
    _last_success: Ending | None = None
    """The end of the last task that succeeded; failures before it are not consecutive any more."""
    _since: Ending | None = None
    """Failures until then do not count: the type was created, or resumed, after them."""
    _entries: dict[str, Entry] = field(default_factory=dict)
    _phases: Counter[Phase] = field(default_factory=Counter)
    _open: dict[str, None] = field(default_factory=dict)
    _members: Counter[int] = field(default_factory=Counter)
    _open_members: Counter[int] = field(default_factory=Counter)
    _consecutive: dict[str, Ending] = field(default_factory=dict)
    _failed: dict[str, Ending] = field(default_factory=dict)
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
        """End the series of consecutive failures: a task succeeded."""
        if self._last_success is None or self._last_success < ending:
            self._last_success = ending
            _forget_until(self._consecutive, ending)

    def count_failures_after(self, ending: Ending) -> None:
        """Count failures only if they ended later: the type was created or resumed then."""
        if self._since is None or self._since < ending:
            self._since = ending
            self.suspension = ""
            _forget_until(self._consecutive, ending)
            _forget_until(self._failed, ending)

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
        elif entry.phase is Phase.FAILED and entry.attempted:
            self._count_failure(uid, entry.ending)

    def _count_failure(self, uid: str, ending: Ending) -> None:
        if self._since is not None and ending <= self._since:
            return
        self._failed[uid] = ending
        if self._last_success is None or self._last_success < ending:
            self._consecutive[uid] = ending

    def _rebuilt(self, phase: Phase) -> list[tuple[Ending, str]]:
        return sorted((e.ending, uid) for uid, e in self._entries.items() if e.phase is phase and e.ending)

    def _discount(self, uid: str, entry: Entry) -> None:
        self._phases[entry.phase] -= 1
        self._open.pop(uid, None)
        self._consecutive.pop(uid, None)
        self._failed.pop(uid, None)
        if entry.shard is not None:
            self._members[entry.shard] -= 1
            self._open_members[entry.shard] -= not entry.phase.terminal
            if not self._members[entry.shard]:
                del self._members[entry.shard], self._open_members[entry.shard]

    # Queries

    def tally(self) -> Tally:
        """Return the counts at this moment."""
        return Tally(
            phases={phase: self._phases[phase] for phase in Phase},
            members=dict(self._members),
            unfinished_shards=frozenset(shard for shard, number in self._open_members.items() if number),
            failures=self.failures(),
        )

    def failures(self) -> Failures:
        """Return the failures at this moment."""
        return Failures(len(self._consecutive), len(self._failed), self._last_success, self.suspension)

    def entry(self, uid: str) -> Entry | None:
        """Return what is counted of a task."""
        return self._entries.get(uid)

    def unfinished(self) -> list[str]:
        """Return the tasks that have not ended."""
        return list(self._open)

    def ended_before(self, phase: Phase, moment: datetime, most: int) -> list[tuple[Ending, str]]:
        """Return deletable tasks that reached a terminal phase before a moment, in order of ending.

        Each of them costs O(log n); those that ended later cost nothing.
        """
        heap = self._endings.get(phase, [])
        found: dict[str, tuple[Ending, str]] = {}
        while heap and heap[0][0][0] < moment and len(found) < most:
            ending, uid = heapq.heappop(heap)
            entry = self._entries.get(uid)
            if entry is not None and (entry.phase, entry.ending) == (phase, ending):  # else: a new run
                found[uid] = (ending, uid)
        for item in found.values():
            heapq.heappush(heap, item)
        return [item for item in found.values() if self._entries[item[1]].deletable]


def _forget_until(failures: dict[str, Ending], ending: Ending) -> None:
    for uid in [uid for uid, failed in failures.items() if failed <= ending]:
        del failures[uid]
