"""The retries that all tasks of a type share: a token bucket, so that an outage becomes no retry storm.

Each first attempt pays in a share of a token, and so does the passing of time; each retry takes out one
(Finagle's RetryBudget, gRPC's retry throttling: gRFC A6). The bucket is kept in the type's status. What is
taken out is written there before it is used, so a restart grants nothing: what an operator had taken out and
not used is lost with it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.api.limits import RetryBudget
from asyncflow.api.meta import Condition, is_true, with_condition
from asyncflow.api.tasktype import RETRY_BUDGET_EXHAUSTED, RetryBudgetStatus, TaskType, TaskTypeStatus
from asyncflow.core.scheduling.priority_queue import PriorityQueue, Rank

RESERVE = 5
"""How many tokens are taken out at once, if they are there: one write for so many retries."""


def capacity(budget: RetryBudget) -> int:
    """Return how many tokens fit: a minute's minimum, and what a hundred first attempts pay in."""
    return budget.minimum_per_minute + budget.percent


def available(
    budget: RetryBudget, state: RetryBudgetStatus | None, first_attempts: int, now: datetime
) -> float:
    """Return how many tokens the bucket holds now.

    Args:
        budget: the settings.
        state: the bucket as it was written last; None for a new one, which holds a minute's minimum.
        first_attempts: how many were started since then.
        now: the moment.
    """
    if state is None or state.update_time is None:
        held, seconds = float(budget.minimum_per_minute), 0.0
    else:
        held, seconds = state.tokens, max(0.0, (now - state.update_time).total_seconds())
    paid_in = seconds * budget.minimum_per_minute / 60 + first_attempts * budget.percent / 100
    return min(float(capacity(budget)), held + paid_in)


def seconds_to_next(budget: RetryBudget, tokens: float) -> float | None:
    """Return in how many seconds there will be a whole token; None if time alone brings none."""
    if tokens >= 1:
        return 0.0
    if not budget.minimum_per_minute:
        return None
    return (1 - tokens) * 60 / budget.minimum_per_minute


@dataclass(slots=True)
class RetryTokens:
    """What the operator has taken out of one type's bucket, and who waits for more."""

    reserve: int = 0
    first_attempts: int = 0
    """First attempts that have not been paid in yet."""
    granted: set[str] = field(default_factory=set)
    """Tasks that hold a token and have not used it yet."""
    _line: PriorityQueue = field(default_factory=PriorityQueue)
    _told: set[str] = field(default_factory=set)

    @property
    def waiting(self) -> list[str]:
        """The tasks whose retries wait for a token."""
        return list(self._line)

    def ask(self, uid: str, place: Rank) -> bool:
        """Ask for a token; tell whether the task holds one now."""
        if uid not in self.granted:
            self._line.put(uid, place)
            self._grant()
        return uid in self.granted

    def untold(self) -> list[str]:
        """Return who waits and was not returned before: they have still to say so."""
        untold = [uid for uid in self._line if uid not in self._told]
        self._told.update(untold)
        return untold

    def take_out(self, tokens: int) -> list[str]:
        """Have more tokens to grant; return the tasks that hold one now."""
        self.reserve += tokens
        return self._grant()

    def use(self, uid: str) -> None:
        """Use up the task's token, if it holds one."""
        self._line.discard(uid)
        self._told.discard(uid)
        self.granted.discard(uid)

    def leave(self, uid: str) -> list[str]:
        """Ask no more, and give back a token that was not used; return the tasks that hold one now."""
        self._line.discard(uid)
        self._told.discard(uid)
        if uid not in self.granted:
            return []
        self.granted.discard(uid)
        return self.take_out(1)

    def _grant(self) -> list[str]:
        granted = []
        while self.reserve and (place := self._line.pop()) is not None:
            uid = place[-1]
            self.reserve -= 1
            self._told.discard(uid)
            self.granted.add(uid)
            granted.append(uid)
        return granted


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What is taken out of a bucket: to be written before it is used."""

    status: TaskTypeStatus
    taken: int = 0
    look_again: datetime | None = None


def withdraw(task_type: TaskType, status: TaskTypeStatus, tokens: RetryTokens, now: datetime) -> Withdrawal:
    """Take out of a type's bucket what its waiting retries need, as far as it is there.

    Args:
        task_type: the type.
        status: its status, as it is about to be written.
        tokens: what was taken out before, and who waits.
        now: the moment.
    """
    exhausted = is_true(status.conditions, RETRY_BUDGET_EXHAUSTED)
    if not tokens.waiting and not exhausted:
        return Withdrawal(status)
    budget = task_type.spec.retry.budget
    moment = now.replace(microsecond=0)  # as it will be read again
    held = available(budget, task_type.status.retry_budget, tokens.first_attempts, moment)
    taken = min(int(held), max(RESERVE, len(tokens.waiting))) if tokens.waiting else 0
    short = len(tokens.waiting) > taken
    if taken:
        bucket = RetryBudgetStatus(tokens=round(held - taken, 3), update_time=moment)
        status = status.model_copy(update={"retry_budget": bucket})
    if short or exhausted:
        condition = Condition(
            type=RETRY_BUDGET_EXHAUSTED,
            status="True" if short else "False",
            reason=reasons.BUDGET_EXHAUSTED if short else reasons.BUDGET_AVAILABLE,
            message="retries wait for a token: see spec.retry.budget" if short else "",
        )
        status = status.model_copy(update={"conditions": with_condition(status.conditions, condition, now)})
    if not short:
        return Withdrawal(status, taken)
    pause = seconds_to_next(budget, held - taken)
    return Withdrawal(status, taken, now + timedelta(seconds=60 if pause is None else max(1.0, pause)))
