"""Every rule of a task's life.

`decide` looks at one task, its type, its Jobs and pods, and says what to do now. It is a pure function: it
can be asked again at any time, after any crash, and says the same; what it asks for may be done twice without
harm, because a Job's name is the claim of its attempt and an outcome is folded in once, by the attempt's
number.
"""

from datetime import datetime, timedelta

from asyncflow.api import asynctask as api
from asyncflow.api.asynctask import AsyncTask, AsyncTaskStatus, Outcome, Phase, TaskLease
from asyncflow.api.meta import Condition, find_condition, with_condition
from asyncflow.api.tasktype import READY, TaskType
from asyncflow.core import outcome
from asyncflow.core.actions import (
    Action,
    Decision,
    DeleteJob,
    ExplainJob,
    PostEvent,
    ReadPods,
    StartAttempt,
    StopJob,
)
from asyncflow.core.history import attempt_entry, fold, with_entry
from asyncflow.core.job import MAX_PAYLOAD_BYTES, payload_text
from asyncflow.core.observed import JobView
from asyncflow.core.outcome import Ending
from asyncflow.core.rules import Rules, rules_for
from asyncflow.core.snapshot import Snapshot

RECORD_AFTER = timedelta(seconds=4)
"""A running attempt goes into the status once it has lasted so long: a short one costs no write of its own.

A Job's creation time has whole seconds, and the Job controller gathers pod updates for a second: an attempt
whose process ends at once takes two to three.
"""

EVIDENCE_AFTER = timedelta(seconds=2)
"""How long a failed Job's pod may be late on its own watch before it is read."""

EXPLAIN_AFTER = timedelta(seconds=8)
"""How long a Job may be without a pod before its events are asked why."""

LOOK_AGAIN_AFTER = timedelta(seconds=3)
"""How often the pods of an attempt without proof of death are read."""

NO_PROOF = "NoProofOfDeath"

LAST_JOB_KEPT = timedelta(minutes=10)
"""How long the last Job of an ended task stays: an operator that is behind meets its name."""


def decide(seen: Snapshot, now: datetime) -> Decision:
    """Say what to do for a task now.

    Args:
        seen: what is known of the task.
        now: the moment, with its time zone.
    """
    task = seen.task
    if task.metadata.deletion_timestamp is not None:
        return Decision(live=bool(_unfinished(seen)))  # its Jobs and pods go with it, as their owner's
    if task.status.phase.terminal:
        return _after_the_end(seen, now)
    rules = rules_for(task, seen.kind) if seen.kind else None
    folded = fold(seen, rules, now)
    if folded.unread is not None:
        return _look_for_evidence(folded.unread, now)
    if folded.unproven is not None:
        return _stuck(seen, folded.status, *folded.unproven, now)
    if folded.live is not None:
        return _while_running(seen, folded.status, folded.live, now)
    return _between_attempts(seen, folded.status, rules, now)


# --- an attempt whose end is not clear -----------------------------------------------------------------


def _look_for_evidence(job: JobView, now: datetime) -> Decision:
    """Give the failed pod a moment to arrive by itself; then read it."""
    due = (job.finish_time or job.created) + EVIDENCE_AFTER
    if now < due:
        return Decision(live=True, wake=due)
    return Decision(actions=(ReadPods(job.name, job.uid),), live=True)


def _stuck(seen: Snapshot, status: AsyncTaskStatus, job: JobView, ending: Ending, now: datetime) -> Decision:
    """An attempt is over by all accounts but its node's: nothing is started on a guess."""
    message = (
        f"attempt {job.attempt} ended ({ending.reason}) without proof that its processes are dead; "
        "no other attempt starts before there is one"
    )
    status = _set(status, now, api.STUCK, "True", NO_PROOF, message)
    update = {**_running(seen, status, job), "phase": status.phase, "reason": NO_PROOF, "message": message}
    looked = seen.looked.get(job.uid)
    if looked is None or now >= looked + LOOK_AGAIN_AFTER:
        look: list[Action] = [ReadPods(job.name, job.uid)]
        return _decision(seen, status.model_copy(update=update), actions=look, live=True)
    wake = looked + LOOK_AGAIN_AFTER
    return _decision(seen, status.model_copy(update=update), live=True, wake=wake)


# --- while an attempt runs ----------------------------------------------------------------------------------


def _while_running(seen: Snapshot, status: AsyncTaskStatus, job: JobView, now: datetime) -> Decision:
    task = seen.task
    actions: list[Action] = []
    wakes: list[datetime] = []
    reason, message = "", ""
    total_end = _total_end(task, seen.kind)
    stop = job.stop_reason
    if not stop and task.spec.cancel:
        stop = outcome.STOP_CANCELLED
    elif not stop and total_end is not None and now >= total_end:
        stop = outcome.STOP_TOTAL_DEADLINE
    elif total_end is not None:
        wakes.append(total_end)
    if stop:
        if not job.stop_reason:
            actions.append(StopJob(job.name, job.uid, stop))
        reason, message = "Stopping", f"attempt {job.attempt} is being stopped: {stop}"
    elif not job.has_pod and not job.ending:
        obstacle = seen.obstacle if seen.obstacle is not None and seen.obstacle.job_uid == job.uid else None
        if obstacle is not None:
            reason, message = obstacle.reason, obstacle.message
        due = max(job.created + EXPLAIN_AFTER, obstacle.retry_time if obstacle else job.created)
        if now >= due:
            actions.append(ExplainJob(job.name, job.uid))
        else:
            wakes.append(due)
    waiting = bool(reason) and not stop
    record_at = job.created + RECORD_AFTER
    if now < record_at and not stop:
        return Decision(actions=tuple(actions), live=True, wake=min([record_at, *wakes]))
    status = _set(status, now, api.WAITING, "True" if waiting else "False", reason, message)
    update = {**_running(seen, status, job), "reason": reason, "message": message}
    wake = min(wakes, default=None)
    return _decision(seen, status.model_copy(update=update), actions=actions, live=True, wake=wake)


def _running(seen: Snapshot, status: AsyncTaskStatus, job: JobView) -> dict[str, object]:
    """Return the fields of a status that tell of an attempt under way."""
    return {
        "phase": Phase.RUNNING,
        "run": job.run,
        "attempt": job.attempt,
        "attempts": with_entry(
            status, attempt_entry(job), rules_for(seen.task, seen.kind) if seen.kind else None
        ),
        "start_time": status.start_time or job.created,
        "retry_time": None,
        "lease": _lease(job),
    }


def _lease(job: JobView) -> TaskLease | None:
    if job.lease_acquired is None or job.lease_expires is None:
        return None
    return TaskLease(
        holder=job.name, token=job.lease_token, acquire_time=job.lease_acquired, expire_time=job.lease_expires
    )


# --- between attempts ---------------------------------------------------------------------------------------


def _between_attempts(
    seen: Snapshot, status: AsyncTaskStatus, rules: Rules | None, now: datetime
) -> Decision:
    status = _set(status, now, api.STUCK, "False", "", "")
    ended = _terminal(seen, status, rules, now)
    if ended is not None:
        return _end(seen, status, *ended, now)
    hold = _reason_to_wait(seen, status, rules, now)
    total_end = _total_end(seen.task, seen.kind)
    if hold is not None:
        reason, message, until = hold
        if reason:
            status = _set(status, now, api.WAITING, "True", reason, message)
            status = status.model_copy(update={"phase": Phase.PENDING, "reason": reason, "message": message})
        wake = min((t for t in (until, total_end) if t is not None), default=None)
        return _decision(seen, status, wake=wake)
    assert rules is not None, "a type without a pod template is not Ready"
    if status.attempts != seen.task.status.attempts:
        return _decision(seen, status)  # the outcome is on record before the next attempt is made
    start = StartAttempt(
        number=(status.attempt or 0) + 1,
        run=status.run or 1,
        priority=rules.priority,
        since=_since(seen.task),
        total_left=(total_end - now).total_seconds() if total_end else None,
    )
    waiting = status.model_copy(
        update={"phase": Phase.PENDING, "reason": "", "message": "", "retry_time": None}
    )
    waiting = _set(waiting, now, api.WAITING, "False", "", "")
    return _decision(seen, waiting, start=start, wake=total_end)


def _terminal(
    seen: Snapshot, status: AsyncTaskStatus, rules: Rules | None, now: datetime
) -> tuple[Phase, str, str] | None:
    """Tell whether the task's run is over: its phase, the reason and a sentence."""
    task = seen.task
    last = status.attempts[-1] if status.attempts and status.attempts[-1].run == (status.run or 1) else None
    if last is not None and last.outcome is Outcome.SUCCEEDED:
        return Phase.SUCCEEDED, "", ""
    if task.spec.cancel:
        return Phase.CANCELLED, "Cancelled", "spec.cancel was set"
    total_end = _total_end(task, seen.kind)
    if total_end is not None and now >= total_end:
        return (
            Phase.FAILED,
            outcome.STOP_TOTAL_DEADLINE,
            f"the task did not end before {total_end:%Y-%m-%d %H:%M:%S} UTC",
        )
    if task.spec.payload is not None and status.attempt is None:
        size = len(payload_text(task).encode())
        if size > MAX_PAYLOAD_BYTES:
            return (
                Phase.FAILED,
                "PayloadTooLarge",
                f"spec.payload has {size} bytes of JSON, at most {MAX_PAYLOAD_BYTES} fit: "
                "keep the data elsewhere and put its address into the payload",
            )
    if last is None or rules is None:
        return None
    what = f"attempt {last.number}: {last.reason}" + (
        f", exit code {last.exit_code}" if last.exit_code else ""
    )
    if last.outcome is Outcome.FAILED and last.exit_code in rules.non_retriable_exit_codes:
        return Phase.FAILED, "NonRetriableExitCode", what
    if (status.failures or 0) > rules.max_retries:
        return Phase.FAILED, "MaxRetriesExceeded", f"{status.failures} attempts failed; {what}"
    if (status.timeouts or 0) > rules.max_timeouts:
        return Phase.FAILED, "MaxTimeoutsExceeded", f"{status.timeouts} attempts timed out; {what}"
    if (status.disruptions or 0) > rules.max_disruptions:
        return Phase.FAILED, "MaxDisruptionsExceeded", f"{status.disruptions} attempts were disrupted; {what}"
    return None


def _reason_to_wait(
    seen: Snapshot, status: AsyncTaskStatus, rules: Rules | None, now: datetime
) -> tuple[str, str, datetime | None] | None:
    """Tell what keeps the next attempt from starting: the reason, a sentence, and until when, if known.

    An empty reason waits without a word: it is a matter of moments.
    """
    task, kind = seen.task, seen.kind
    if kind is None or kind.metadata.deletion_timestamp is not None:
        name, namespace = task.spec.task_type_name, task.metadata.namespace
        return (
            "UnknownTaskType",
            f"there is no TaskType {name} in namespace {namespace}: create it, or delete this task",
            None,
        )
    if task.spec.suspend:
        return "Suspended", "spec.suspend is set on this task", None
    if kind.spec.suspend:
        return "TaskTypeSuspended", f"spec.suspend is set on TaskType {kind.metadata.name}", None
    ready = find_condition(kind.status.conditions, READY)
    if ready is None or ready.observed_generation != kind.metadata.generation:
        return "", "", None  # its dry run is on its way, and its end is an event
    if ready.status == "False":
        return "TaskTypeNotReady", f"TaskType {kind.metadata.name}: {ready.message}", None
    if task.spec.not_before is not None and now < task.spec.not_before:
        return "NotBefore", "spec.notBefore has not come", task.spec.not_before
    if status.retry_time is not None and now < status.retry_time:
        last = status.attempts[-1]
        code = f" with exit code {last.exit_code}" if last.exit_code else ""
        return "BackOff", f"attempt {last.number} ended as {last.outcome}{code}", status.retry_time
    if seen.obstacle is not None and not seen.obstacle.job_uid and now < seen.obstacle.retry_time:
        return seen.obstacle.reason, seen.obstacle.message, seen.obstacle.retry_time
    return None


def _since(task: AsyncTask) -> datetime:
    """Since when the task is due: the later of its creation and its notBefore."""
    created = task.metadata.creation_timestamp
    assert created is not None, "the API server stamps every object"
    return max(created, task.spec.not_before or created)


def _total_end(task: AsyncTask, kind: TaskType | None) -> datetime | None:
    total = task.spec.deadlines.total_seconds or (kind.spec.deadlines.total_seconds if kind else None)
    return _since(task) + timedelta(seconds=total) if total else None


# --- the end of the task ------------------------------------------------------------------------------------

CONDITION_OF = {Phase.SUCCEEDED: api.COMPLETE, Phase.FAILED: api.FAILED, Phase.CANCELLED: api.CANCELLED}


def _end(
    seen: Snapshot, status: AsyncTaskStatus, phase: Phase, reason: str, message: str, now: datetime
) -> Decision:
    status = _set(status, now, api.WAITING, "False", "", "")
    status = _set(status, now, CONDITION_OF[phase], "True", reason or "Completed", message)
    last = status.attempts[-1] if status.attempts else None
    status = status.model_copy(
        update={
            "phase": phase,
            "reason": reason,
            "message": message,
            "retry_time": None,
            "lease": None,
            "completion_time": (last.end_time if last else None) or now,
        }
    )
    return _decision(seen, status)


def _after_the_end(seen: Snapshot, now: datetime) -> Decision:
    """Stop what still runs, and delete the Jobs: the last one when it has stood for a while."""
    actions: list[Action] = []
    wake: datetime | None = None
    newest = max((job.attempt for job in seen.jobs), default=0)
    for job in seen.jobs:
        if job.uid in seen.gone or job.deleting:
            continue
        if not job.finished:
            if not job.stop_reason:
                actions.append(StopJob(job.name, job.uid, outcome.STOP_TASK_ENDED))
            continue
        due = (job.finish_time or job.created) + LAST_JOB_KEPT
        if job.attempt < newest or now >= due:
            actions.append(DeleteJob(job.name, job.uid))
        else:
            wake = due
    return Decision(actions=tuple(actions), wake=wake, live=bool(_unfinished(seen)))


def _unfinished(seen: Snapshot) -> list[JobView]:
    return [job for job in seen.jobs if not job.finished and job.uid not in seen.gone]


# --- what is written ----------------------------------------------------------------------------------------


def _set(
    status: AsyncTaskStatus, now: datetime, kind: str, value: str, reason: str, message: str
) -> AsyncTaskStatus:
    """Set a condition; one that never was True is not written as False."""
    old = find_condition(status.conditions, kind)
    if value == "False" and old is None:
        return status
    condition = Condition.model_validate(
        {
            "type": kind,
            "status": value,
            "reason": reason or ("Resolved" if value == "False" else kind),
            "message": message,
        }
    )
    return status.model_copy(update={"conditions": with_condition(status.conditions, condition, now)})


def _decision(
    seen: Snapshot,
    status: AsyncTaskStatus,
    *,
    start: StartAttempt | None = None,
    actions: list[Action] | None = None,
    wake: datetime | None = None,
    live: bool = False,
) -> Decision:
    old = seen.task.status
    if status == old:
        return Decision(start=start, actions=tuple(actions or ()), wake=wake, live=live)
    new = status.model_copy(update={"observed_generation": seen.task.metadata.generation})
    events = _events(old, new)
    return Decision(status=new, start=start, actions=(*(actions or ()), *events), wake=wake, live=live)


QUIET = frozenset({"", "BackOff", "NotBefore", "Suspended", "TaskTypeSuspended", "Resolved"})
"""Reasons to wait that are as they should be: no event tells of them."""


def _events(old: AsyncTaskStatus, new: AsyncTaskStatus) -> list[Action]:
    """Tell people what they would want to know: a failure, a hindrance, a stuck attempt. Not a success."""
    made: list[Action] = []
    if new.phase is not old.phase and new.phase is Phase.FAILED:
        made.append(PostEvent(new.reason, new.message))
    if new.phase is not old.phase and new.phase is Phase.CANCELLED:
        made.append(PostEvent(new.reason, new.message, warning=False))
    for kind in (api.WAITING, api.STUCK):
        before, after = find_condition(old.conditions, kind), find_condition(new.conditions, kind)
        if after is None or after.status != "True" or after.reason in QUIET:
            continue
        if before is None or before.status != "True" or before.reason != after.reason:
            made.append(PostEvent(after.reason, after.message))
    return made
