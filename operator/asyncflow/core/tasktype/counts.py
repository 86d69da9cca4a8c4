"""The counts of a TaskType's status, and its condition Throttled."""

from datetime import datetime

from asyncflow.api import reasons
from asyncflow.api.asynctask import Phase
from asyncflow.api.meta import Condition, find_condition, with_condition
from asyncflow.api.tasktype import THROTTLED, Counts, TaskTypeStatus
from asyncflow.core.tasktype.census import Tally
from asyncflow.core.tasktype.error_policy import with_failure_counts
from asyncflow.core.tasktype.snapshot import Demand


def with_counts(status: TaskTypeStatus, tally: Tally, demand: Demand, now: datetime) -> TaskTypeStatus:
    """Return a type's status with its tasks counted.

    Args:
        status: its status, as it is about to be written.
        tally: its tasks.
        demand: what they wait for.
        now: the moment.
    """
    waiting, since = demand.slots, demand.slots_since
    update = {
        "counts": Counts(**{phase.value.lower(): tally.phases[phase] for phase in Phase}),
        "waiting": waiting,
        "waiting_since": since.replace(microsecond=0) if since is not None else None,  # as the API keeps it
    }
    status = with_failure_counts(status, tally.failures).model_copy(update=update)
    if not waiting and find_condition(status.conditions, THROTTLED) is None:
        return status
    throttled = Condition(
        type=THROTTLED,
        status="True" if waiting else "False",
        reason=reasons.CONCURRENCY_LIMIT_REACHED if waiting else reasons.BELOW_CONCURRENCY_LIMIT,
        message="tasks wait for a slot: see status.waiting and spec.maxConcurrent" if waiting else "",
    )
    return status.model_copy(update={"conditions": with_condition(status.conditions, throttled, now)})
