"""How far the tasks of a type have come: counts, rate, expected end, errors."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from asyncflow.api.asynctask import AsyncTask, Phase

WINDOW_SECONDS = 60.0
"""The rate is that of the last minute: tasks that end early say little of the last ones."""


@dataclass(slots=True)
class Progress:
    """What has been seen of a set of tasks. Times are in seconds of one steady clock."""

    tasks: dict[str, AsyncTask] = field(default_factory=dict)
    began: float = 0
    _ended: deque[float] = field(default_factory=deque)

    def put(self, task: AsyncTask, now: float) -> None:
        """Take note of a task as it is now."""
        before = self.tasks.get(task.metadata.uid)
        self.tasks[task.metadata.uid] = task
        if task.status.phase.terminal and before is not None and not before.status.phase.terminal:
            self._ended.append(now)

    def drop(self, uid: str) -> None:
        """Forget a task that was deleted."""
        self.tasks.pop(uid, None)

    @property
    def counts(self) -> Counter[Phase]:
        """How many tasks there are in each phase."""
        return Counter(task.status.phase for task in self.tasks.values())

    @property
    def open(self) -> int:
        """How many tasks have not ended."""
        return sum(1 for task in self.tasks.values() if not task.status.phase.terminal)

    def rate(self, now: float) -> float | None:
        """Return how many tasks ended in a second, lately; None if none was seen to end."""
        while self._ended and self._ended[0] < now - WINDOW_SECONDS:
            self._ended.popleft()
        span = min(WINDOW_SECONDS, now - self.began)
        return len(self._ended) / span if self._ended and span > 0 else None

    def seconds_left(self, now: float) -> float | None:
        """Return in how many seconds the last task may end at the present rate; None if it can't be told."""
        rate = self.rate(now)
        return self.open / rate if rate else None


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Tasks that failed for one reason."""

    reason: str
    last_attempt: str
    tasks: tuple[str, ...]


def errors(tasks: Iterable[AsyncTask]) -> list[ErrorGroup]:
    """Group the failed tasks by why they failed, the largest group first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for task in tasks:
        if task.status.phase is Phase.FAILED:
            groups.setdefault((task.status.reason, _last_attempt(task)), []).append(task.metadata.name)
    found = [ErrorGroup(reason, last, tuple(sorted(names))) for (reason, last), names in groups.items()]
    return sorted(found, key=lambda group: (-len(group.tasks), group.reason, group.last_attempt))


def _last_attempt(task: AsyncTask) -> str:
    if not task.status.attempts:
        return "no attempt was made"
    last = task.status.attempts[-1]
    code = "" if last.exit_code is None else f", exit code {last.exit_code}"
    return f"{last.outcome or 'running'} ({last.reason}{code})"
