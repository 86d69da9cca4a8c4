"""What blocks the next attempt: the first check that fails, in the order of the checks."""

from datetime import datetime

from asyncflow.api import asynctask as api
from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTaskStatus, Attempt, Outcome
from asyncflow.api.meta import find_condition
from asyncflow.api.tasktype import READY
from asyncflow.core.attempt.naming import lock_name
from asyncflow.core.attempt.settings import AttemptSettings
from asyncflow.core.lifecycle.blocker import Blocker
from asyncflow.core.lifecycle.interventions import how_to_decide, ignored_decision
from asyncflow.core.lifecycle.retry import last_of_run, policy_after
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.scheduling.admission import Gate


def blocker_of_start(
    snapshot: Snapshot, status: AsyncTaskStatus, settings: AttemptSettings | None, now: datetime
) -> Blocker | None:
    """Return what blocks the next attempt; None if it may start."""
    task, task_type, last = snapshot.task, snapshot.task_type, last_of_run(status)
    if task_type is None or task_type.metadata.deletion_timestamp is not None:
        name, namespace = task.spec.task_type_name, task.metadata.namespace
        return Blocker(
            reasons.UNKNOWN_TASK_TYPE,
            f"there is no TaskType {name} in namespace {namespace}: create it, or delete this task",
        )
    if (
        last is not None
        and settings is not None
        and last.decision is None
        and policy_after(last, settings) == "Hold"
    ):
        return _decision_required(snapshot, last)
    if task.spec.suspend:
        return Blocker(reasons.SUSPENDED, "spec.suspend is set on this task")
    if task_type.spec.suspend:
        return Blocker(
            reasons.TASK_TYPE_SUSPENDED, f"spec.suspend is set on TaskType {task_type.metadata.name}"
        )
    if snapshot.suspended_itself:
        return Blocker(
            reasons.TASK_TYPE_SUSPENDED,
            f"TaskType {task_type.metadata.name} has suspended itself: see its condition Suspended",
        )
    ready = find_condition(task_type.status.conditions, READY)
    if ready is None or (ready.observed_generation or 0) < (
        snapshot.dry_run_generation or task_type.metadata.generation
    ):
        return Blocker()  # the dry run of the type is in progress; its result is an event
    if ready.status == "False":
        return Blocker(reasons.TASK_TYPE_NOT_READY, f"TaskType {task_type.metadata.name}: {ready.message}")
    if settings is not None and (invalid := _invalid(snapshot, settings)):
        return Blocker(reasons.CONFLICTING_SETTINGS, invalid, condition=api.INVALID)
    if task.spec.not_before is not None and now < task.spec.not_before:
        return Blocker(reasons.NOT_BEFORE, "spec.notBefore is in the future", task.spec.not_before)
    if status.retry_time is not None and now < status.retry_time and last is not None:
        code = f" with exit code {last.exit_code}" if last.exit_code else ""
        message = f"attempt {last.number} ended as {last.outcome}{code}"
        snoozed = last.outcome is Outcome.SNOOZED
        return Blocker(reasons.SNOOZED if snoozed else reasons.BACK_OFF, message, status.retry_time)
    refused = snapshot.blocker
    if refused is not None and not refused.job_uid and refused.until is not None and now < refused.until:
        return refused
    return _blocked_at_gate(snapshot)


def _blocked_at_gate(snapshot: Snapshot) -> Blocker | None:
    if snapshot.gate is Gate.LOCK and snapshot.task.spec.lock_key is not None:
        name = lock_name(snapshot.task.spec.lock_key)
        if snapshot.lock_orphaned:
            return Blocker(
                reasons.LOCK_ORPHANED,
                f"lockKey {snapshot.task.spec.lock_key} is held by an attempt of a finished or deleted task, "
                "without proof that its processes are dead. When you know that they are, delete its Lease: "
                f"kubectl delete lease -n {snapshot.task.metadata.namespace} {name}",
                keeps_place=True,
            )
        return Blocker(
            reasons.LOCK_HELD,
            f"lockKey {snapshot.task.spec.lock_key} is held by another attempt: see "
            f"kubectl get lease -n {snapshot.task.metadata.namespace} {name}",
            keeps_place=True,
        )
    if snapshot.gate is Gate.BUDGET:
        name = snapshot.task.spec.task_type_name
        return Blocker(
            reasons.RETRY_BUDGET_EXHAUSTED,
            f"the retry budget of TaskType {name} (spec.retry.budget) is exhausted for now",
            keeps_place=True,
        )
    return None


def _decision_required(snapshot: Snapshot, last: Attempt) -> Blocker:
    ignored = ignored_decision(snapshot.task, last.job_uid)
    return Blocker(
        api.DECISION_REQUIRED,
        f"attempt {last.number} ended as {last.outcome} ({last.reason}): decide what comes next: "
        f"{how_to_decide(snapshot.task, last.job_uid)}. {ignored}".rstrip(),
        condition=api.DECISION_REQUIRED,
    )


def _invalid(snapshot: Snapshot, settings: AttemptSettings) -> str:
    """Return which settings of the task and its type, combined, would break a guarantee; else ""."""
    if snapshot.task.spec.lock_key is not None and settings.replace_unsafe:
        return (
            "spec.lockKey requires proof of death, which onNodeLost: ReplaceUnsafe of the TaskType waives: "
            "use a TaskType with onNodeLost: Wait"
        )
    return ""
