"""Whether a TaskType can work at all, beyond what its schema says; and what of its changes concerns whom."""

from datetime import datetime

from asyncflow.api import reasons
from asyncflow.api.meta import Condition, find_condition, is_true, with_condition
from asyncflow.api.tasktype import READY, SUSPENDED, ErrorPolicy, Retention, TaskType, TaskTypeStatus


def needs_dry_run(task_type: TaskType) -> bool:
    """Tell whether this generation of the type has still to be tried as a dry run of its Job, or tried again.

    What spoke against it may have gone without a change of the type: an admission policy, a webhook.
    """
    ready = find_condition(task_type.status.conditions, READY)
    return (
        ready is None or ready.status != "True" or ready.observed_generation != task_type.metadata.generation
    )


def with_dry_run_result(
    task_type: TaskType, rejection: tuple[str, str] | None, now: datetime
) -> TaskTypeStatus:
    """Return the type's status after its dry run.

    Args:
        task_type: the type.
        rejection: the reason and what the API server said against its Job, or None if it takes it.
        now: the moment.
    """
    generation = task_type.metadata.generation
    reason, message = rejection or (reasons.JOB_ACCEPTED, "the API server accepts its Job")
    ready = Condition(
        type=READY,
        status="False" if rejection else "True",
        reason=reason,
        message=message[:1024],
        observed_generation=generation,
    )
    conditions = with_condition(task_type.status.conditions, ready, now)
    return task_type.status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def dry_run_subject(task_type: TaskType) -> tuple[object, ...]:
    """Return what the dry run of a type depends on: while it stays the same, so does the result."""
    spec = task_type.spec
    return spec.template, spec.stages, spec.deadlines, spec.lease


def matters_to_tasks(task_type: TaskType, dry_run_generation: int) -> tuple[object, ...]:
    """Return what of a type its waiting tasks go by; the rest changes without concern to them.

    Args:
        task_type: the type.
        dry_run_generation: the first generation whose dry run holds for this one.
    """
    spec = task_type.spec.model_copy(
        update={
            "max_concurrent": 1,
            "max_tasks_per_shard": 1,
            "error_policy": ErrorPolicy(),
            "retention": Retention(history_limit=task_type.spec.retention.history_limit),
        }
    )
    ready = find_condition(task_type.status.conditions, READY)
    tried = ready is not None and (ready.observed_generation or 0) >= dry_run_generation
    verdict = (ready.status, "" if ready.status == "True" else ready.message) if ready is not None else None
    suspended = is_true(task_type.status.conditions, SUSPENDED)
    return spec, task_type.metadata.deletion_timestamp, tried, verdict, suspended
