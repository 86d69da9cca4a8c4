"""The retry budget of a TaskType: a token bucket that bounds the retries of all its tasks together.

Each first attempt adds a share of a token, and so does time; each retry takes one
(Finagle's RetryBudget; gRPC's retry throttling, gRFC A6). The bucket is kept in the type's status. Tokens are
withdrawn there before they are used, so a restart grants none: withdrawn and unused ones are lost with the
operator.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.api.limits import RetryBudget
from asyncflow.api.meta import Condition, is_true, with_condition
from asyncflow.api.tasktype import RETRY_BUDGET_EXHAUSTED, RetryBudgetStatus, TaskType, TaskTypeStatus

MIN_WITHDRAWAL = 5
"""How many tokens are withdrawn at once if they are available: one write for several retries."""


def capacity(budget: RetryBudget) -> int:
    """Return the size of the bucket: the minimum of one minute, plus what 100 first attempts add."""
    return budget.minimum_per_minute + budget.percent


def available(
    budget: RetryBudget, state: RetryBudgetStatus | None, first_attempts: int, now: datetime
) -> float:
    """Return how many tokens the bucket holds now.

    Args:
        budget: the settings.
        state: the bucket as last written; None for a new one, which holds the minimum of one minute.
        first_attempts: how many were started since then.
        now: the moment.
    """
    if state is None or state.update_time is None:
        held, seconds = float(budget.minimum_per_minute), 0.0
    else:
        held, seconds = state.tokens, max(0.0, (now - state.update_time).total_seconds())
    added = seconds * budget.minimum_per_minute / 60 + first_attempts * budget.percent / 100
    return min(float(capacity(budget)), held + added)


def seconds_to_next(budget: RetryBudget, tokens: float) -> float | None:
    """Return the seconds until there is a whole token; None if time alone adds none."""
    if tokens >= 1:
        return 0.0
    if not budget.minimum_per_minute:
        return None
    return (1 - tokens) * 60 / budget.minimum_per_minute


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Tokens taken out of a bucket. The status has to be written before they are used."""

    status: TaskTypeStatus
    taken: int = 0
    next_token: datetime | None = None
    """When to try again for the retries that got no token."""


def withdraw(
    task_type: TaskType, status: TaskTypeStatus, *, waiting: int, first_attempts: int, now: datetime
) -> Withdrawal:
    """Withdraw the tokens that waiting retries need, as far as there are any.

    Args:
        task_type: the type, with the bucket as last written.
        status: its status, as it is about to be written.
        waiting: how many retries wait for a token.
        first_attempts: how many first attempts were started since the bucket was written.
        now: the moment.
    """
    exhausted = is_true(status.conditions, RETRY_BUDGET_EXHAUSTED)
    if not waiting and not exhausted:
        return Withdrawal(status)
    budget = task_type.spec.retry.budget
    moment = now.replace(microsecond=0)  # the API keeps whole seconds
    held = available(budget, task_type.status.retry_budget, first_attempts, moment)
    taken = min(int(held), max(MIN_WITHDRAWAL, waiting)) if waiting else 0
    short = waiting > taken
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
