"""The rules at and after the end of a task's run."""

from datetime import datetime, timedelta

from asyncflow.api import asynctask as api
from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTaskStatus, Phase
from asyncflow.core.lifecycle import outcome
from asyncflow.core.lifecycle.actions import Action, Decision, DeleteJob, PostEvent, ReadPods, StopJob
from asyncflow.core.lifecycle.history import is_recorded
from asyncflow.core.lifecycle.interventions import retry_now
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.status import decided, with_reason
from asyncflow.core.views.execution import Execution

JOBS_KEPT = timedelta(minutes=10)
"""How long a Job of a finished task is kept after its end: a delayed create finds its name taken."""

CONDITION_OF = {Phase.SUCCEEDED: api.COMPLETE, Phase.FAILED: api.FAILED, Phase.CANCELLED: api.CANCELLED}


def end_run(
    snapshot: Snapshot,
    status: AsyncTaskStatus,
    phase: Phase,
    reason: str,
    message: str,
    now: datetime,
) -> Decision:
    """Bring the run to its terminal phase."""
    for condition_type in (api.WAITING, api.STUCK, api.DECISION_REQUIRED, api.INVALID):
        status = with_reason(status, now, condition_type, False)
    status = with_reason(status, now, CONDITION_OF[phase], True, reason or reasons.COMPLETED, message)
    update = {
        "phase": phase,
        "reason": reason,
        "message": message,
        "retry_time": None,
        "lease": None,
        "completion_time": _end_of_an_attempt(snapshot, status) or now,
    }
    return decided(snapshot, status.model_copy(update=update))


def _end_of_an_attempt(snapshot: Snapshot, status: AsyncTaskStatus) -> datetime | None:
    """Return when the last attempt ended, if its end is recorded by this decision."""
    known = {attempt.number for attempt in snapshot.task.status.attempts if attempt.outcome is not None}
    last = status.attempts[-1] if status.attempts else None
    return last.end_time if last is not None and last.number not in known else None


def decide_finished(snapshot: Snapshot, now: datetime) -> Decision:
    """Begin the next run if requested; stop what still runs; delete Jobs some time after their end."""
    request = retry_now(snapshot.task)
    if request is not None and not unfinished(snapshot):
        return _next_run(snapshot, request, now)
    actions: list[Action] = []
    wakes: list[datetime] = []
    for job in snapshot.jobs:
        lock, gone = snapshot.lock, job.uid in snapshot.gone
        holds_lock = lock is not None and (lock.task_uid, lock.attempt_number) == (
            job.task_uid,
            job.attempt.number,
        )
        if holds_lock and (job.closed or gone) and job.uid not in snapshot.pods_listed_at:
            actions.append(ReadPods(job.name, job.uid))
        if gone or job.deleting:
            continue
        if not job.finished:
            if not job.stop_reason:
                actions.append(StopJob(job.name, job.uid, outcome.STOP_TASK_ENDED))
            continue
        if holds_lock:
            continue  # needed as evidence until the lock is released
        due = (job.finish_time or job.created) + JOBS_KEPT
        if now >= due:
            actions.append(DeleteJob(job.name, job.uid))
        else:
            wakes.append(due)
    return Decision(actions=tuple(actions), wake=min(wakes, default=None), live=bool(unfinished(snapshot)))


def unfinished(snapshot: Snapshot) -> list[Execution]:
    """Return the Jobs whose processes may still run: neither finished nor with proof of death."""
    status = snapshot.task.status
    return [
        job
        for job in snapshot.jobs
        if not job.finished
        and job.uid not in snapshot.gone
        and not (job.closed and is_recorded(status, job.attempt.number))
    ]


def _next_run(snapshot: Snapshot, request: str, now: datetime) -> Decision:
    """Begin the run that the annotation retry-now requests, or refuse it."""
    status = snapshot.task.status.model_copy(update={"retry_now": request})
    if snapshot.task.spec.cancel:
        refused = PostEvent(reasons.RETRY_REFUSED, "a cancelled task cannot be retried: create another task")
        return decided(snapshot, status, actions=[refused], live=bool(unfinished(snapshot)))
    for condition_type in CONDITION_OF.values():
        status = with_reason(status, now, condition_type, False, reasons.RETRY_NOW)
    update = {
        "phase": Phase.PENDING,
        "reason": "",
        "message": "",
        "run": (status.run or 1) + 1,
        "run_time": now,
        "shard": None,
        "failures": None,
        "timeouts": None,
        "disruptions": None,
        "snoozes": None,
        "retry_time": None,
        "result": None,
        "start_time": None,
        "completion_time": None,
    }
    return decided(snapshot, status.model_copy(update=update), live=bool(unfinished(snapshot)))
