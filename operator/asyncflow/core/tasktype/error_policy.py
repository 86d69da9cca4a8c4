"""The error policy: a TaskType suspends itself when its tasks fail too often, until it is resumed by hand."""

from datetime import datetime

from asyncflow.api import names, reasons
from asyncflow.api.meta import Condition, with_condition
from asyncflow.api.tasktype import SUSPENDED, Errors, TaskType, TaskTypeStatus
from asyncflow.core.tasktype.census import Census, Failures

END_OF_SECOND = chr(0x10FFFF)
"""Sorts after every name: everything that ended within that second."""


def restore_from_status(task_type: TaskType, census: Census) -> None:
    """Restore what a type's status has of tasks that may have been deleted since."""
    errors, created = task_type.status.errors, task_type.metadata.creation_timestamp
    if created is not None:
        census.count_failures_after((created, ""))
    if errors.resume_time is not None:
        census.count_failures_after((errors.resume_time, END_OF_SECOND))
    if errors.last_success_time is not None:
        census.succeeded((errors.last_success_time, ""))


def suspended_itself(task_type: TaskType, failures: Failures) -> str:
    """Return why a type starts no more attempts because its tasks have failed too often; else "".

    The leader keeps the answer in the census from its first decision on: a success that arrives before the
    suspension is on record must not lift it.
    """
    return failures.suspension or task_type.status.errors.suspended or _limit_reached(task_type, failures)


def failures_that_count(task_type: TaskType, failures: Failures) -> Failures:
    """Return the failures that count: none after a request to resume the type that is to be fulfilled now."""
    if _resume_request(task_type) is None:
        return failures
    return Failures(last_success=failures.last_success)


def evaluate(
    task_type: TaskType, status: TaskTypeStatus, failures: Failures, now: datetime
) -> TaskTypeStatus:
    """Return a type's status with its errors and its condition Suspended as they are now.

    Args:
        task_type: the type.
        status: its status, as it is about to be written.
        failures: those of its tasks that count.
        now: the moment.
    """
    errors, request = status.errors, _resume_request(task_type)
    if request is not None:
        errors = Errors(
            resumed=request,
            resume_time=now.replace(microsecond=0),  # the API keeps whole seconds
            last_success_time=errors.last_success_time,
        )
        why = _limit_reached(task_type, failures)
    else:
        why = suspended_itself(task_type, failures)
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


def with_failure_counts(status: TaskTypeStatus, failures: Failures) -> TaskTypeStatus:
    """Return a type's status with its failed tasks counted."""
    last = failures.last_success
    update: dict[str, object] = {
        "consecutive": failures.consecutive,
        "total": failures.total,
        "last_success_time": last[0] if last is not None else None,
    }
    return status.model_copy(update={"errors": status.errors.model_copy(update=update)})


def _resume_request(task_type: TaskType) -> str | None:
    """Return the request to resume the type, if it has not been fulfilled yet."""
    request = task_type.metadata.annotations.get(names.RESUME_ANNOTATION, "")[:256]
    return request if request and request != task_type.status.errors.resumed else None


def _limit_reached(task_type: TaskType, failures: Failures) -> str:
    """Return which limit of the error policy the failures reach, and the remedy; "" if none."""
    policy, meta = task_type.spec.error_policy, task_type.metadata
    if policy.max_consecutive is not None and failures.consecutive >= policy.max_consecutive:
        limit = f"errorPolicy.maxConsecutive: {policy.max_consecutive}"
        what = f"{failures.consecutive} consecutive tasks failed ({limit})"
    elif policy.max_total is not None and failures.total >= policy.max_total:
        what = f"{failures.total} tasks failed (errorPolicy.maxTotal: {policy.max_total})"
    else:
        return ""
    return (
        f"{what}: no more attempts are started. When the cause is fixed, resume it: kubectl annotate "
        f'--overwrite -n {meta.namespace} tasktype {meta.name} {names.RESUME_ANNOTATION}="$(date)"'
    )
