"""The error policy: a type whose tasks fail suspends itself, and a person resumes it."""

from datetime import datetime

from asyncflow.api import names, reasons
from asyncflow.api.meta import Condition, with_condition
from asyncflow.api.tasktype import SUSPENDED, Errors, TaskType, TaskTypeStatus
from asyncflow.core.tasktype.census import Census

AFTER_ALL = chr(0x10FFFF)
"""Sorts behind every name: all that ended in that second."""


def restore_from_status(task_type: TaskType, census: Census) -> None:
    """Tell a census what is on record of its type: tasks that it was counted from may be gone."""
    errors, made = task_type.status.errors, task_type.metadata.creation_timestamp
    if made is not None:
        census.count_from((made, ""))
    if errors.resume_time is not None:
        census.count_from((errors.resume_time, AFTER_ALL))
    if errors.last_success_time is not None:
        census.succeeded((errors.last_success_time, ""))


def suspended_itself(task_type: TaskType, census: Census) -> str:
    """Return why a type starts no more attempts, if its tasks have failed too often; else nothing."""
    return census.tripped or task_type.status.errors.suspended or _past(task_type, census)


def latch(task_type: TaskType, census: Census) -> None:
    """Keep a type suspended from the failure that is one too many on, until it is resumed.

    Only a leader calls it, when it decides: while tasks are still listed, failures may look consecutive.
    """
    census.tripped = suspended_itself(task_type, census)


def evaluate(task_type: TaskType, status: TaskTypeStatus, census: Census, now: datetime) -> TaskTypeStatus:
    """Return a type's status with its errors and the condition Suspended as they are now.

    Args:
        task_type: the type.
        status: its status, as it is about to be written.
        census: its tasks.
        now: the moment.
    """
    errors, asked = status.errors, _asked(task_type)
    if asked is not None:
        moment = now.replace(microsecond=0)  # as it will be read again
        census.count_from((moment, AFTER_ALL))
        census.tripped = ""
        errors = Errors(resumed=asked, resume_time=moment, last_success_time=errors.last_success_time)
        task_type = task_type.model_copy(update={"status": status.model_copy(update={"errors": errors})})
    latch(task_type, census)
    why = census.tripped
    errors = errors.model_copy(update={"suspended": why})
    reason, message = reasons.ACTIVE, ""
    if task_type.spec.suspend:
        reason, message = reasons.SUSPENDED_BY_USER, "spec.suspend is set: no more attempts are started"
    if why:
        reason, message = reasons.ERROR_POLICY, why
    suspended = Condition(
        type=SUSPENDED,
        status="True" if message else "False",
        reason=reason,
        message=message,
        observed_generation=task_type.metadata.generation,
    )
    conditions = with_condition(status.conditions, suspended, now)
    return status.model_copy(update={"errors": errors, "conditions": conditions})


def with_failure_counts(status: TaskTypeStatus, census: Census) -> TaskTypeStatus:
    """Return a type's status with its failed tasks counted."""
    last = census.last_success
    update: dict[str, object] = {
        "consecutive": census.failures_in_a_row,
        "total": census.failures_in_all,
        "last_success_time": last[0] if last is not None else None,
    }
    return status.model_copy(update={"errors": status.errors.model_copy(update=update)})


def _asked(task_type: TaskType) -> str | None:
    """Return a request to resume that has not been answered, if there is one."""
    asked = task_type.metadata.annotations.get(names.RESUME_ANNOTATION, "")[:256]
    return asked if asked and asked != task_type.status.errors.resumed else None


def _past(task_type: TaskType, census: Census) -> str:
    policy, meta = task_type.spec.error_policy, task_type.metadata
    in_a_row = census.failures_in_a_row
    in_all = census.failures_in_all
    if policy.max_consecutive is not None and in_a_row >= policy.max_consecutive:
        what = f"{in_a_row} tasks failed in a row (errorPolicy.maxConsecutive: {policy.max_consecutive})"
    elif policy.max_total is not None and in_all >= policy.max_total:
        what = f"{in_all} tasks failed in all (errorPolicy.maxTotal: {policy.max_total})"
    else:
        return ""
    return (
        f"{what}: no more attempts are started. When the cause is fixed, resume it: kubectl annotate "
        f'--overwrite -n {meta.namespace} tasktype {meta.name} {names.RESUME_ANNOTATION}="$(date)"'
    )
