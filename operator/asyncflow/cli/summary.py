"""The progress of the tasks of a type: counts, rate, estimated time left, failures."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from asyncflow.api.asynctask import AsyncTask, Phase

WINDOW_SECONDS = 60.0
"""The rate is measured over the last minute: earlier tasks say little about the remaining ones."""


@dataclass(slots=True)
class Progress:
    """The observed states of a set of tasks. Times are in seconds of one monotonic clock."""

    tasks: dict[str, AsyncTask] = field(default_factory=dict)
    began: float = 0
    _finished: deque[float] = field(default_factory=deque)

    def put(self, task: AsyncTask, now: float) -> None:
        """Add or update a task."""
        before = self.tasks.get(task.metadata.uid)
        self.tasks[task.metadata.uid] = task
        if task.status.phase.terminal and before is not None and not before.status.phase.terminal:
            self._finished.append(now)

    def drop(self, uid: str) -> None:
        """Remove a task that was deleted."""
        self.tasks.pop(uid, None)

    @property
    def counts(self) -> Counter[Phase]:
        """Number of tasks by phase."""
        return Counter(task.status.phase for task in self.tasks.values())

    @property
    def open(self) -> int:
        """Number of unfinished tasks."""
        return sum(1 for task in self.tasks.values() if not task.status.phase.terminal)

    def rate(self, now: float) -> float | None:
        """Return how many tasks finish per second, over the last minute; None if none did."""
        while self._finished and self._finished[0] < now - WINDOW_SECONDS:
            self._finished.popleft()
        span = min(WINDOW_SECONDS, now - self.began)
        return len(self._finished) / span if self._finished and span > 0 else None

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until all tasks have finished at the current rate; None if there is no rate."""
        rate = self.rate(now)
        return self.open / rate if rate else None


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Tasks that failed for the same reason."""

    reason: str
    last_attempt: str
    tasks: tuple[str, ...]


def errors(tasks: Iterable[AsyncTask]) -> list[ErrorGroup]:
    """Return the failed tasks grouped by reason and last attempt, the largest group first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for task in tasks:
        if task.status.phase is Phase.FAILED:
            groups.setdefault((task.status.reason, _last_attempt(task)), []).append(task.metadata.name)
    result = [ErrorGroup(reason, last, tuple(sorted(names))) for (reason, last), names in groups.items()]
    return sorted(result, key=lambda group: (-len(group.tasks), group.reason, group.last_attempt))


def _last_attempt(task: AsyncTask) -> str:
    if not task.status.attempts:
        return "no attempt was started"
    last = task.status.attempts[-1]
    code = "" if last.exit_code is None else f", exit code {last.exit_code}"
    return f"{last.outcome or 'running'} ({last.reason}{code})"
