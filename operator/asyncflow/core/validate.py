"""Whether a TaskType can work at all, beyond what its schema says."""

from datetime import datetime

from asyncflow.api.meta import Condition, find_condition, with_condition
from asyncflow.api.tasktype import READY, SUSPENDED, TaskType, TaskTypeStatus


def needs_trial(kind: TaskType) -> bool:
    """Tell whether this generation of the type has still to be tried as a dry run of its Job, or tried again.

    What spoke against it may have gone without a change of the type: an admission policy, a webhook.
    """
    ready = find_condition(kind.status.conditions, READY)
    return ready is None or ready.status != "True" or ready.observed_generation != kind.metadata.generation


def judged(kind: TaskType, rejection: tuple[str, str] | None, now: datetime) -> TaskTypeStatus:
    """Return the type's status after its trial.

    Args:
        kind: the type.
        rejection: the reason and what the API server said against its Job, or None if it takes it.
        now: the moment.
    """
    generation = kind.metadata.generation
    reason, message = rejection or ("JobAccepted", "the API server accepts its Job")
    ready = Condition(
        type=READY,
        status="False" if rejection else "True",
        reason=reason,
        message=message[:1024],
        observed_generation=generation,
    )
    suspended = Condition(
        type=SUSPENDED,
        status="True" if kind.spec.suspend else "False",
        reason="SuspendedByUser" if kind.spec.suspend else "Active",
        message="no more attempts are started" if kind.spec.suspend else "",
        observed_generation=generation,
    )
    conditions = kind.status.conditions
    for condition in (ready, suspended):
        conditions = with_condition(conditions, condition, now)
    return kind.status.model_copy(update={"conditions": conditions, "observed_generation": generation})
