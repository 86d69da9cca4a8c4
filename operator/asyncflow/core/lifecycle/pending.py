"""The rules between attempts: whether the run is over, what the next attempt waits for, and its start."""

from dataclasses import dataclass, replace
from datetime import datetime

from asyncflow.api import asynctask as api
from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTaskStatus, Attempt, Outcome, Phase, Verdict
from asyncflow.api.meta import find_condition
from asyncflow.api.tasktype import READY, RETRY_BUDGET_EXHAUSTED
from asyncflow.core.attempt.deadlines import due_since, total_end
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.attempt.manifest import MAX_PAYLOAD_BYTES, payload_text
from asyncflow.core.attempt.naming import lock_name
from asyncflow.core.attempt.settings import AttemptSettings
from asyncflow.core.lifecycle import outcome
from asyncflow.core.lifecycle.actions import Decision, StartAttempt
from asyncflow.core.lifecycle.finished import end_run
from asyncflow.core.lifecycle.interventions import decision, how_to_decide, retry_now
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.status import decided, with_reason
from asyncflow.core.scheduling.admission import Gate


@dataclass(frozen=True, slots=True)
class Wait:
    """What keeps the next attempt from starting. Without a reason it waits silently, for a moment."""

    reason: str = ""
    message: str = ""
    until: datetime | None = None
    condition: str = api.WAITING


def decide_pending(
    snapshot: Snapshot,
    status: AsyncTaskStatus,
    settings: AttemptSettings | None,
    now: datetime,
) -> Decision:
    """End the run, or say what it waits for, or start the next attempt."""
    status = with_reason(status, now, api.STUCK, False)
    status = _with_requests(snapshot, status)
    ended = _terminal(snapshot, status, settings, now)
    if ended is not None:
        return end_run(snapshot, status, *ended, now)
    wait = _reason_to_wait(snapshot, status, settings, now)
    end = total_end(snapshot.task, snapshot.task_type)
    if wait is not None and not wait.reason:
        return decided(snapshot, status, wake=end)
    may_start = wait is None or wait.reason in GATE_REASONS
    if wait is None and snapshot.obstacle is not None and not snapshot.obstacle.job_uid:
        wait = Wait(snapshot.obstacle.reason, snapshot.obstacle.message)  # until a start has succeeded
    if (
        wait is not None
        and snapshot.obstacle is not None
        and wait.reason == snapshot.task.status.reason == snapshot.obstacle.reason
    ):
        # the first message stays: each new wording is a write
        wait = replace(wait, message=snapshot.task.status.message)
    for condition_type in (api.WAITING, api.DECISION_REQUIRED, api.INVALID):
        here = wait is not None and wait.condition == condition_type
        reason, message = (wait.reason, wait.message) if wait is not None and here else ("", "")
        status = with_reason(status, now, condition_type, here, reason, message)
    status = status.model_copy(
        update={
            "phase": Phase.PENDING,
            "reason": wait.reason if wait else "",
            "message": wait.message if wait else "",
        }
    )
    if wait is not None and not may_start:
        wake = min((t for t in (wait.until, end) if t is not None), default=None)
        return decided(snapshot, status, wake=wake)
    assert settings is not None, "a type without a pod template is not Ready"
    if status.attempts != snapshot.task.status.attempts or status.retry_now != snapshot.task.status.retry_now:
        return decided(snapshot, status)  # on record before the next attempt is made
    start = StartAttempt(
        attempt=AttemptId(run=status.run or 1, stage=0, number=(status.attempt or 0) + 1),
        priority=settings.priority,
        since=due_since(snapshot.task),
        total_left=(end - now).total_seconds() if end else None,
        first=_last(status) is None,
        takes_token=_takes_token(_last(status)),
        lock_key=snapshot.task.spec.lock_key,
    )
    status = status.model_copy(update={"retry_time": None})
    return decided(snapshot, status, start=start, wake=end)


def _last(status: AsyncTaskStatus) -> Attempt | None:
    """Return the last attempt of this run."""
    last = status.attempts[-1] if status.attempts else None
    return last if last is not None and last.run == (status.run or 1) else None


RETRIED_NOW = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.NOT_STARTED, Outcome.SNOOZED)
"""After these a person's retry-now is the decision; where a type asks for one, retry-now does not answer."""

CHARGED = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.NOT_STARTED, Outcome.UNKNOWN)


def _takes_token(last: Attempt | None) -> bool:
    """Tell whether the next attempt draws on the type's budget: a retry does that no person asked for."""
    return last is not None and last.outcome in CHARGED and last.decision is None


def _with_requests(snapshot: Snapshot, status: AsyncTaskStatus) -> AsyncTaskStatus:
    """Put on record what a person has decided about the last attempt, or asked for."""
    last = _last(status)
    asked, decided_by = retry_now(snapshot.task), decision(snapshot.task)
    undecided = last if last is not None and last.decision is None else None
    update: dict[str, object] = {}
    entry: dict[str, object] = {}
    if asked is not None:
        update |= {"retry_now": asked, "retry_time": None}
        if undecided is not None and undecided.outcome in RETRIED_NOW:
            entry = {"decision": Verdict.RETRY, "decision_note": "retry-now"}
    if undecided is not None and decided_by is not None and decided_by.job_uid == undecided.job_uid:
        entry = {"decision": decided_by.verdict, "decision_note": decided_by.note}
        update |= {"retry_time": None}
    if last is not None and entry:
        update |= {"attempts": (*status.attempts[:-1], last.model_copy(update=entry))}
    return status.model_copy(update=update) if update else status


def _policy(last: Attempt, settings: AttemptSettings) -> str:
    """Return what the type wants done after an attempt: Retry, Fail or Hold."""
    if last.outcome is Outcome.DISRUPTED:
        return settings.on_disruption
    if last.outcome is Outcome.UNKNOWN:
        return settings.on_unknown_outcome
    return "Retry"


def _terminal(
    snapshot: Snapshot, status: AsyncTaskStatus, settings: AttemptSettings | None, now: datetime
) -> tuple[Phase, str, str] | None:
    """Tell whether the task's run is over: its phase, the reason and a sentence."""
    task, last = snapshot.task, _last(status)
    if last is not None and last.outcome is Outcome.SUCCEEDED:
        return Phase.SUCCEEDED, "", ""
    if last is not None and last.decision is Verdict.SUCCEED:
        return Phase.SUCCEEDED, reasons.SUCCEEDED_BY_DECISION, _by_decision(last)
    if task.spec.cancel:
        return Phase.CANCELLED, reasons.CANCELLED, "spec.cancel was set"
    if last is not None and last.decision is Verdict.FAIL:
        return Phase.FAILED, reasons.FAILED_BY_DECISION, _by_decision(last)
    end = total_end(task, snapshot.task_type)
    if end is not None and now >= end:
        message = f"the task did not end before {end:%Y-%m-%d %H:%M:%S} UTC"
        return Phase.FAILED, outcome.STOP_TOTAL_DEADLINE, message
    if task.spec.payload is not None and status.attempt is None:
        size = len(payload_text(task).encode())
        if size > MAX_PAYLOAD_BYTES:
            message = (
                f"spec.payload has {size} bytes of JSON, at most {MAX_PAYLOAD_BYTES} fit: "
                "keep the data elsewhere and put its address into the payload"
            )
            return Phase.FAILED, reasons.PAYLOAD_TOO_LARGE, message
    if last is None or settings is None or last.decision is Verdict.RETRY:
        return None
    return _used_up(status, settings, last)


def _used_up(
    status: AsyncTaskStatus, settings: AttemptSettings, last: Attempt
) -> tuple[Phase, str, str] | None:
    """Tell whether the task may not be retried any more."""
    code = f", exit code {last.exit_code}" if last.exit_code else ""
    what = f"attempt {last.number}: {last.reason}{code}"
    if last.outcome is Outcome.FAILED and last.exit_code in settings.non_retriable_exit_codes:
        return Phase.FAILED, reasons.NON_RETRIABLE_EXIT_CODE, what
    policy = _policy(last, settings)
    if policy == "Hold":
        return None
    if policy == "Fail":
        disrupted = last.outcome is Outcome.DISRUPTED
        return Phase.FAILED, reasons.DISRUPTED if disrupted else reasons.OUTCOME_UNKNOWN, what
    if (status.failures or 0) > settings.max_retries:
        return Phase.FAILED, reasons.MAX_RETRIES_EXCEEDED, f"{status.failures} attempts failed; {what}"
    if (status.timeouts or 0) > settings.max_timeouts:
        return Phase.FAILED, reasons.MAX_TIMEOUTS_EXCEEDED, f"{status.timeouts} attempts timed out; {what}"
    if (status.disruptions or 0) > settings.max_disruptions:
        return (
            Phase.FAILED,
            reasons.MAX_DISRUPTIONS_EXCEEDED,
            f"{status.disruptions} attempts were disrupted; {what}",
        )
    return None


def _by_decision(last: Attempt) -> str:
    note = f": {last.decision_note}" if last.decision_note else ""
    return f"decided by a person after attempt {last.number} ({last.outcome}){note}"


def _reason_to_wait(
    snapshot: Snapshot, status: AsyncTaskStatus, settings: AttemptSettings | None, now: datetime
) -> Wait | None:
    """Tell what keeps the next attempt from starting."""
    task, task_type, last = snapshot.task, snapshot.task_type, _last(status)
    if task_type is None or task_type.metadata.deletion_timestamp is not None:
        name, namespace = task.spec.task_type_name, task.metadata.namespace
        return Wait(
            reasons.UNKNOWN_TASK_TYPE,
            f"there is no TaskType {name} in namespace {namespace}: create it, or delete this task",
        )
    if (
        last is not None
        and settings is not None
        and last.decision is None
        and _policy(last, settings) == "Hold"
    ):
        return _decision_required(snapshot, last)
    if task.spec.suspend:
        return Wait(reasons.SUSPENDED, "spec.suspend is set on this task")
    if task_type.spec.suspend:
        return Wait(reasons.TASK_TYPE_SUSPENDED, f"spec.suspend is set on TaskType {task_type.metadata.name}")
    if snapshot.suspended_itself:
        return Wait(
            reasons.TASK_TYPE_SUSPENDED,
            f"TaskType {task_type.metadata.name} has suspended itself: see its condition Suspended",
        )
    ready = find_condition(task_type.status.conditions, READY)
    if ready is None or (ready.observed_generation or 0) < (
        snapshot.dry_run_generation or task_type.metadata.generation
    ):
        return Wait()  # its dry run is on its way, and its end is an event
    if ready.status == "False":
        return Wait(reasons.TASK_TYPE_NOT_READY, f"TaskType {task_type.metadata.name}: {ready.message}")
    if settings is not None and (invalid := _invalid(snapshot, settings)):
        return Wait(reasons.CONFLICTING_SETTINGS, invalid, condition=api.INVALID)
    if task.spec.not_before is not None and now < task.spec.not_before:
        return Wait(reasons.NOT_BEFORE, "spec.notBefore is in the future", task.spec.not_before)
    if status.retry_time is not None and now < status.retry_time and last is not None:
        code = f" with exit code {last.exit_code}" if last.exit_code else ""
        message = f"attempt {last.number} ended as {last.outcome}{code}"
        snoozed = last.outcome is Outcome.SNOOZED
        return Wait(reasons.SNOOZED if snoozed else reasons.BACK_OFF, message, status.retry_time)
    hindered = snapshot.obstacle
    if hindered is not None and not hindered.job_uid and now < hindered.retry_time:
        return Wait(hindered.reason, hindered.message, hindered.retry_time)
    return _at_the_gate(snapshot)


GATE_REASONS = (reasons.LOCK_HELD, reasons.LOCK_ORPHANED, RETRY_BUDGET_EXHAUSTED)
"""A task that waits for one of these has its place in the order."""


def _at_the_gate(snapshot: Snapshot) -> Wait | None:
    if snapshot.gate is Gate.LOCK and snapshot.task.spec.lock_key is not None:
        name = lock_name(snapshot.task.spec.lock_key)
        if snapshot.lock_orphaned:
            return Wait(
                reasons.LOCK_ORPHANED,
                f"lockKey {snapshot.task.spec.lock_key} is held by an attempt of a task that is over, and "
                "nothing proves that its processes are dead. When you know that they are, delete its Lease: "
                f"kubectl delete lease -n {snapshot.task.metadata.namespace} {name}",
            )
        return Wait(
            reasons.LOCK_HELD,
            f"another attempt holds lockKey {snapshot.task.spec.lock_key}: "
            f"kubectl get lease -n {snapshot.task.metadata.namespace} {name} shows whose",
        )
    if snapshot.gate is Gate.BUDGET:
        name = snapshot.task.spec.task_type_name
        return Wait(
            RETRY_BUDGET_EXHAUSTED,
            f"the tasks of TaskType {name} have used up their common retries (spec.retry.budget) for now",
        )
    return None


def _decision_required(snapshot: Snapshot, last: Attempt) -> Wait:
    read = decision(snapshot.task)
    other = " The decision there is about another attempt." if read is not None else ""
    return Wait(
        api.DECISION_REQUIRED,
        f"attempt {last.number} ended as {last.outcome} ({last.reason}): decide what comes next: "
        f"{how_to_decide(snapshot.task, last.job_uid)}.{other}",
        condition=api.DECISION_REQUIRED,
    )


def _invalid(snapshot: Snapshot, settings: AttemptSettings) -> str:
    """Return what in the task's settings and its type's, put together, would break a promise."""
    if snapshot.task.spec.lock_key is not None and settings.replace_unsafe:
        return (
            "spec.lockKey and onNodeLost: ReplaceUnsafe of the TaskType contradict each other: what the "
            "latter gives up is what a lock is for. Use a TaskType with onNodeLost: Wait"
        )
    return ""
