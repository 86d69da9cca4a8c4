"""How far the tasks of a type are, as its status says it."""

from datetime import datetime

from asyncflow.api import reasons
from asyncflow.api.asynctask import Phase
from asyncflow.api.meta import Condition, find_condition, with_condition
from asyncflow.api.tasktype import THROTTLED, Counts, TaskTypeStatus
from asyncflow.core.tasktype.census import Census
from asyncflow.core.tasktype.error_policy import with_failure_counts


def counts(census: Census) -> Counts:
    """Return how many tasks of a type there are in each phase."""
    return Counts(**{phase.value.lower(): census.phase(phase) for phase in Phase})


def with_counts(
    status: TaskTypeStatus,
    census: Census,
    waiting: int,
    since: datetime | None,
    now: datetime,
) -> TaskTypeStatus:
    """Return a type's status with its tasks counted.

    Args:
        status: its status, as it is about to be written.
        census: its tasks.
        waiting: how many of them wait for nothing but a slot.
        since: since when the first of these could have started.
        now: the moment.
    """
    since = since.replace(microsecond=0) if since is not None else None  # as it will be read again
    update = {"counts": counts(census), "waiting": waiting, "waiting_since": since}
    status = with_failure_counts(status, census).model_copy(update=update)
    if not waiting and find_condition(status.conditions, THROTTLED) is None:
        return status
    throttled = Condition(
        type=THROTTLED,
        status="True" if waiting else "False",
        reason=reasons.CONCURRENCY_LIMIT_REACHED if waiting else reasons.BELOW_CONCURRENCY_LIMIT,
        message="tasks wait for a slot: see status.waiting and spec.maxConcurrent" if waiting else "",
    )
    return status.model_copy(update={"conditions": with_condition(status.conditions, throttled, now)})
