"""The rules while an attempt runs, or its end is not clear."""

from datetime import datetime, timedelta

from asyncflow.api import asynctask as api
from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTaskStatus, Phase, TaskLease
from asyncflow.core.attempt.deadlines import total_end
from asyncflow.core.attempt.settings import effective_settings
from asyncflow.core.lifecycle import outcome
from asyncflow.core.lifecycle.actions import (
    Action,
    CloseJob,
    Decision,
    ExplainJob,
    FindPod,
    PostEvent,
    ReadPods,
    StopJob,
)
from asyncflow.core.lifecycle.blocker import Blocker
from asyncflow.core.lifecycle.history import Folded, attempt_entry, with_entry
from asyncflow.core.lifecycle.interventions import how_to_confirm, retry_now
from asyncflow.core.lifecycle.outcome import Ending
from asyncflow.core.lifecycle.proof_of_death import lease_end, named_by, pod_of
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.status import decided, with_reason
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.pod import PodView

RECORD_AFTER = timedelta(seconds=4)
"""A running attempt goes into the status once it has lasted so long: a short one costs no write of its own.

It lasts from when the Job controller takes up its Job: of thousands at once each waits for that. Times of the
API have whole seconds, and the Job controller gathers pod updates for a second: an attempt whose process ends
at once takes two to three. Then its pod is looked for, and all that is known of it is
written at once; as long as no node has accepted it and nothing speaks against that, nothing is written.
"""

RECORD_ANYWAY = timedelta(seconds=30)
"""After so long an attempt is written down as it is, with what is known of it."""

EVIDENCE_AFTER = timedelta(seconds=2)
"""How long a failed Job's pod may be late on its own watch before it is read."""

EXPLAIN_AFTER = timedelta(seconds=8)
"""How long a Job may be without a pod before its events are asked why."""

BACKLOG_AFTER = timedelta(seconds=60)
"""How long nothing may speak against a Job's pod before people hear that there is none: of thousands of Jobs
at once each waits its turn with the Job controller, and each message is a write."""

LOOK_AGAIN_AFTER = timedelta(seconds=3)
LOOK_AGAIN_AT_LEAST = timedelta(seconds=60)
"""How often the pods of an attempt without proof of death are read: at first, and after a long while."""

OVERDUE_AFTER = timedelta(seconds=60)
"""How long the Job controller may be late with a Job's deadline before people hear of it."""


def look_for_evidence(job: Execution, now: datetime) -> Decision:
    """Give the failed pod a moment to arrive by itself; then read it."""
    due = (job.finish_time or job.created) + EVIDENCE_AFTER
    if now < due:
        return Decision(live=True, wake=due)
    return Decision(actions=(ReadPods(job.name, job.uid),), live=True)


def stuck_without_proof(
    snapshot: Snapshot, status: AsyncTaskStatus, job: Execution, ending: Ending, now: datetime
) -> Decision:
    """An attempt is finished according to the API, not confirmed by its node: nothing else is started."""
    message = (
        f"attempt {job.attempt.number} ended ({ending.reason}) without proof that its processes are "
        "dead; no other attempt starts before there is one: the return or the fencing of its node, or your "
        "confirmation: "
        f"{how_to_confirm(snapshot.task, named_by(snapshot, job))}"
    )
    end = lease_end(snapshot, job)
    wakes = [end] if end is not None and now < end else []
    actions: list[Action] = []
    due = _look_again(snapshot, job, now)
    if now >= due:
        actions.append(ReadPods(job.name, job.uid))
    else:
        wakes.append(due)
    status = _under_way(snapshot, status, job, now, reasons.NO_PROOF_OF_DEATH, message, stuck=True)
    return decided(snapshot, status, actions=actions, live=True, wake=min(wakes, default=None))


def decide_running(snapshot: Snapshot, folded: Folded, now: datetime) -> Decision:
    """Let an attempt run, stop it when its time has come, and say what blocks it."""
    job, status = folded.live, folded.status
    assert job is not None
    pod = pod_of(snapshot, job.uid)
    record_at = taken_up(job) + RECORD_AFTER
    wakes: list[datetime] = []
    actions: list[Action] = []

    blocker = _blocker_of_job(snapshot, job, pod, now)
    stop, until = _reason_to_stop(snapshot, folded, job, pod, blocker, now)
    if until is not None:
        wakes.append(until)
    if folded.duplicate_job:
        stop_it = StopJob(job.name, job.uid, stop)
        return Decision(actions=() if job.stop_reason else (stop_it, _repeated(job)), live=True)
    if folded.evidence is not None:
        actions += _seal(snapshot, job, now)
        wakes.append(max(_look_again(snapshot, job, now), now + LOOK_AGAIN_AFTER))
    elif stop and not job.stop_reason:
        message = f"{blocker.reason}: {blocker.message}" if blocker and not _accepted(pod) else ""
        actions.append(StopJob(job.name, job.uid, stop, message))

    stuck, message, until = _reason_to_be_stuck(snapshot, job, now)
    if until is not None:
        wakes.append(until)
    reason = stuck
    if not stuck and stop:
        reason, message = reasons.STOPPING, f"attempt {job.attempt.number} is being stopped: {stop}"
    elif not stuck and blocker is not None:
        reason, message = blocker.reason, blocker.message
        if status.attempt == job.attempt.number and status.reason == reason:
            message = status.message  # the first message stays: each new wording would be a write
    if not job.has_pod and not job.ending and not stop:
        due = max(job.created + EXPLAIN_AFTER, _next_explanation(snapshot, job))
        if now >= due:
            actions.append(ExplainJob(job.name, job.uid))
        else:
            wakes.append(due)
        wakes += [heard] if now < (heard := job.created + BACKLOG_AFTER) else []

    if now < record_at and not stop:
        return Decision(actions=tuple(actions), live=True, wake=min([record_at, *wakes]))
    at_the_latest = taken_up(job) + RECORD_ANYWAY
    unseen = pod is None and job.uid not in snapshot.pods_listed_at
    if not reason and not _accepted(pod) and (now < at_the_latest or unseen):
        if job.has_pod:
            actions.append(FindPod())
            wakes.append(now + LOOK_AGAIN_AFTER)
        wakes += [at_the_latest] if now < at_the_latest else []
        return Decision(actions=tuple(actions), live=True, wake=min(wakes, default=None))
    waiting = bool(reason) and not stop and not stuck
    status = _under_way(snapshot, status, job, now, reason, message, stuck=bool(stuck), waiting=waiting)
    return decided(snapshot, status, actions=actions, live=True, wake=min(wakes, default=None))


def _seal(snapshot: Snapshot, job: Execution, now: datetime) -> list[Action]:
    """See that nothing of an attempt that is proven dead comes back: no other pod, nor this one."""
    if not job.closed:
        return [CloseJob(job.name, job.uid, outcome.STOP_FENCED)]
    return [ReadPods(job.name, job.uid)] if now >= _look_again(snapshot, job, now) else []


def _look_again(snapshot: Snapshot, job: Execution, now: datetime) -> datetime:
    """Return when the pods of an attempt are read again: the longer it has been so, the more seldom."""
    looked = snapshot.pods_listed_at.get(job.uid)
    if looked is None:
        return now
    age = now - (job.finish_time or job.created)
    return looked + min(LOOK_AGAIN_AT_LEAST, max(LOOK_AGAIN_AFTER, age / 20))


def _repeated(job: Execution) -> PostEvent:
    message = f"Job {job.name} repeats attempt {job.attempt.number}, whose end is on record: it is stopped"
    return PostEvent(reasons.DUPLICATE_ATTEMPT, message)


def _reason_to_stop(
    snapshot: Snapshot,
    folded: Folded,
    job: Execution,
    pod: PodView | None,
    blocker: Blocker | None,
    now: datetime,
) -> tuple[str, datetime | None]:
    """Tell why an attempt is to be stopped, or is being stopped; if not, when to ask again."""
    if job.stop_reason:
        return job.stop_reason, None
    if folded.duplicate_job:
        return outcome.STOP_TASK_ENDED, None
    if snapshot.task.spec.cancel:
        return outcome.STOP_CANCELLED, None
    end = total_end(snapshot.task, snapshot.task_type)
    if end is not None and now >= end:
        return outcome.STOP_TOTAL_DEADLINE, None
    if _accepted(pod) or job.ending or not job.pending_seconds:
        return "", end
    began = pod.created if pod is not None and pod.created else job.created
    due = began + timedelta(seconds=job.pending_seconds)
    at_fault = pod is not None or (blocker is not None and blocker.reason != reasons.JOB_CONTROLLER_BACKLOG)
    if now >= due and at_fault:
        return outcome.STOP_NOT_STARTED, None
    return "", min((t for t in (end, due) if t is not None and t > now), default=None)


def taken_up(job: Execution) -> datetime:
    """Return when the Job controller took up a Job; as long as it did not, when the Job was created."""
    return job.start_time or job.created


def _accepted(pod: PodView | None) -> bool:
    return pod is not None and pod.start_time is not None


def _blocker_of_job(snapshot: Snapshot, job: Execution, pod: PodView | None, now: datetime) -> Blocker | None:
    """Return what keeps an attempt from running: of its pod, or of the Job that has none."""
    if pod is not None and not pod.terminal and pod.blocked_by:
        return Blocker(pod.blocked_by, pod.blocked_message, job_uid=job.uid)
    found = snapshot.blocker
    if found is None or found.job_uid != job.uid or job.has_pod or job.ending:
        return None
    if found.reason == reasons.JOB_CONTROLLER_BACKLOG and now < job.created + BACKLOG_AFTER:
        return None
    return found


def _next_explanation(snapshot: Snapshot, job: Execution) -> datetime:
    found = snapshot.blocker
    return found.until if found is not None and found.until and found.job_uid == job.uid else job.created


def _reason_to_be_stuck(
    snapshot: Snapshot, job: Execution, now: datetime
) -> tuple[str, str, datetime | None]:
    """Tell whether an attempt should long be over: reason, sentence, and when to ask again if it is not."""
    end = lease_end(snapshot, job)
    if end is not None and now >= end and (job.has_pod or pod_of(snapshot, job.uid) is not None):
        return (
            reasons.LEASE_EXPIRED,
            f"the lease of attempt {job.attempt.number} has run out and its node has not said that it ended; "
            "no other attempt starts before there is proof: the return or the fencing of its node, or your "
            "confirmation: "
            f"{how_to_confirm(snapshot.task, named_by(snapshot, job))}",
            None,
        )
    overdue = None
    if job.deadline_seconds:
        overdue = taken_up(job) + timedelta(seconds=job.deadline_seconds) + OVERDUE_AFTER
        if now >= overdue and not job.ending:
            return (
                reasons.JOB_OVERDUE,
                f"Job {job.name} has outlived its deadline: is kube-controller-manager at work?",
                end if end is not None and now < end else None,
            )
    return "", "", min((t for t in (end, overdue) if t is not None and t > now), default=None)


def _under_way(
    snapshot: Snapshot,
    status: AsyncTaskStatus,
    job: Execution,
    now: datetime,
    reason: str,
    message: str,
    *,
    stuck: bool = False,
    waiting: bool = False,
) -> AsyncTaskStatus:
    """Return the status of a task with a running attempt."""
    status = with_reason(status, now, api.STUCK, stuck, reason if stuck else "", message if stuck else "")
    status = with_reason(
        status, now, api.WAITING, waiting, reason if waiting else "", message if waiting else ""
    )
    if (asked := retry_now(snapshot.task)) is not None:
        status = status.model_copy(update={"retry_now": asked})  # answered: an attempt runs
    settings = effective_settings(snapshot.task, snapshot.task_type) if snapshot.task_type else None
    update: dict[str, object] = {
        "phase": Phase.RUNNING,
        "run": max(status.run or 1, job.attempt.run),
        "attempt": job.attempt.number,
        "attempts": with_entry(status, attempt_entry(snapshot, job), settings),
        "start_time": status.start_time or job.created,
        "retry_time": None,
        "lease": _lease(snapshot, job),
        "reason": reason,
        "message": message,
    }
    return status.model_copy(update=update)


def _lease(snapshot: Snapshot, job: Execution) -> TaskLease | None:
    end = lease_end(snapshot, job)
    if job.lease_acquired is None or end is None:
        return None
    return TaskLease(holder=job.name, token=job.lease_token, acquire_time=job.lease_acquired, expire_time=end)
