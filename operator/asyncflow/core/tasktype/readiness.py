"""Whether a TaskType can run at all, beyond what its schema checks; and which changes affect its tasks."""

from datetime import datetime

from asyncflow.api import reasons
from asyncflow.api.meta import Condition, find_condition, is_true, with_condition
from asyncflow.api.tasktype import READY, SUSPENDED, ErrorPolicy, Retention, TaskType, TaskTypeStatus
from asyncflow.core.tasktype.snapshot import DryRunResult


def needs_dry_run(task_type: TaskType) -> bool:
    """Return whether the Job of this generation of the type has to be created as a dry run, or again.

    A rejection is not final: its cause, such as an admission policy, may go without a change of the type.
    """
    ready = find_condition(task_type.status.conditions, READY)
    return (
        ready is None or ready.status != "True" or ready.observed_generation != task_type.metadata.generation
    )


def with_dry_run_result(task_type: TaskType, result: DryRunResult, now: datetime) -> TaskTypeStatus:
    """Return the type's status after its dry run."""
    generation = task_type.metadata.generation
    accepted = not result.reason
    ready = Condition(
        type=READY,
        status="True" if accepted else "False",
        reason=result.reason or (reasons.JOB_SUSPENDED if result.suspended else reasons.JOB_ACCEPTED),
        message=_accepted_message(result) if accepted else result.message[:1024],
        observed_generation=generation,
    )
    conditions = with_condition(task_type.status.conditions, ready, now)
    return task_type.status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def _accepted_message(result: DryRunResult) -> str:
    if result.suspended:
        return (
            "the API server accepts its Job and suspends it: attempts start when another controller admits it"
        )
    return "the API server accepts its Job"


def dry_run_subject(task_type: TaskType) -> tuple[object, ...]:
    """Return what the dry run of a type depends on: while it stays the same, so does the result."""
    spec = task_type.spec
    return spec.template, spec.job_metadata, spec.stages, spec.deadlines, spec.lease


def matters_to_tasks(task_type: TaskType, dry_run_generation: int) -> tuple[object, ...]:
    """Return the parts of a type that affect its waiting tasks: a change of another part reconciles none.

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
    dry_run_done = ready is not None and (ready.observed_generation or 0) >= dry_run_generation
    verdict = (ready.status, "" if ready.status == "True" else ready.message) if ready is not None else None
    suspended = is_true(task_type.status.conditions, SUSPENDED)
    return spec, task_type.metadata.deletion_timestamp, dry_run_done, verdict, suspended
