"""The rules while an attempt runs."""

from datetime import datetime, timedelta

from asyncflow.api import reasons
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
from asyncflow.core.lifecycle.history import Folded
from asyncflow.core.lifecycle.proof_of_death import early_confirmation, needs_node_read, pod_of
from asyncflow.core.lifecycle.record import (
    RECORD_AFTER,
    RECORD_ANYWAY,
    accepted,
    running_since,
    running_status,
)
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.status import decided
from asyncflow.core.lifecycle.stop import reason_to_stop
from asyncflow.core.lifecycle.stuck import (
    READ_PODS_AFTER,
    is_preparing,
    next_pod_read,
    preparing_blocker,
    reason_to_be_stuck,
    why_ignored,
)
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.pod import PodView

EXPLAIN_AFTER = timedelta(seconds=8)
"""How long a Job may be without a pod before its events are read for the cause."""

BACKLOG_AFTER = timedelta(seconds=60)
"""How long a Job may be without a pod, for no known cause, before the status shows it: of thousands of Jobs
created at once, each waits for the Job controller, and each message is a write."""


def decide_running(snapshot: Snapshot, folded: Folded, now: datetime) -> Decision:
    """Let an attempt run, stop it when it is due, and record what blocks it."""
    job, status = folded.live, folded.status
    assert job is not None
    pod = pod_of(snapshot, job.uid)
    wakes: list[datetime] = []
    actions: list[Action] = []

    blocker = _blocker_of_job(snapshot, job, pod, now)
    stop, until = reason_to_stop(snapshot, folded, job, pod, blocker, now)
    wakes += [until] if until is not None else []
    if folded.duplicate_job:
        return Decision(actions=() if job.stop_reason else _stop_duplicate(job, stop), live=True)
    if folded.evidence is not None:
        actions += _seal(snapshot, job, now)
        wakes.append(max(next_pod_read(snapshot, job, now), now + READ_PODS_AFTER))
    elif stop and not job.stop_reason:
        message = f"{blocker.reason}: {blocker.message}" if blocker and not accepted(pod) else ""
        actions.append(StopJob(job.name, job.uid, stop, message))

    stuck, message, until = reason_to_be_stuck(snapshot, job, now)
    wakes += [until] if until is not None else []
    reason = stuck
    if not stuck and stop:
        reason, message = reasons.STOPPING, f"attempt {job.attempt.number} is being stopped: {stop}"
        if pod is not None and is_preparing(snapshot, pod, now):
            message += f"; node {pod.node_name} is still {pod.preparing}, and ends it afterwards"
    elif not stuck and blocker is not None:
        reason, message = blocker.reason, blocker.message
        if status.attempt == job.attempt.number and status.reason == reason:
            message = status.message  # the first message stays: each change of wording would be a write
    if job.deleting and pod is None and not job.has_pod and job.uid not in snapshot.pods_listed_at:
        actions.append(ReadPods(job.name, job.uid))  # evidence only as long as the Job exists
    if not (job.has_pod or job.ending or job.suspended or stop):
        explain, explain_at = _explanation(snapshot, job, now)
        actions += explain
        wakes += explain_at

    record_at, record_anyway_at = running_since(job) + RECORD_AFTER, running_since(job) + RECORD_ANYWAY
    early = early_confirmation(snapshot, job, now)
    if needs_node_read(snapshot, job, now):
        actions.append(FindPod())
        wakes.append(now + READ_PODS_AFTER)
    if now < record_at and not (stop or early):
        return Decision(actions=tuple(actions), live=True, wake=min([record_at, *wakes]))
    unknown_pod = pod is None and job.uid not in snapshot.pods_listed_at
    if not (reason or early or accepted(pod)) and (now < record_anyway_at or unknown_pod):
        if job.has_pod:
            actions.append(FindPod())
            wakes.append(now + READ_PODS_AFTER)
        wakes += [record_anyway_at] if now < record_anyway_at else []
        return Decision(actions=tuple(actions), live=True, wake=min(wakes, default=None))
    waiting = bool(reason) and not stop and not stuck
    status = running_status(snapshot, status, job, now, reason, message, stuck=bool(stuck), waiting=waiting)
    ignored = why_ignored(snapshot, job, now) if stuck or early else ""
    return decided(
        snapshot, status, actions=actions, live=True, wake=min(wakes, default=None), ignored=ignored
    )


def _stop_duplicate(job: Execution, stop: str) -> tuple[Action, ...]:
    message = f"Job {job.name} repeats attempt {job.attempt.number}, whose end is on record: it is stopped"
    return StopJob(job.name, job.uid, stop), PostEvent(reasons.DUPLICATE_ATTEMPT, message)


def _seal(snapshot: Snapshot, job: Execution, now: datetime) -> list[Action]:
    """Prevent that an attempt with proof of death starts again, with its own pod or another one."""
    if not job.closed:
        return [CloseJob(job.name, job.uid, outcome.STOP_FENCED)]
    return [ReadPods(job.name, job.uid)] if now >= next_pod_read(snapshot, job, now) else []


def _blocker_of_job(snapshot: Snapshot, job: Execution, pod: PodView | None, now: datetime) -> Blocker | None:
    """Return what blocks the pod of an attempt, or the Job that has none."""
    if pod is not None and not pod.terminal and pod.blocked_by:
        return Blocker(pod.blocked_by, pod.blocked_message, job_uid=job.uid)
    if (preparing := preparing_blocker(snapshot, job, pod, now)) is not None:
        return preparing
    if job.suspended and not job.finished:
        message = (
            f"Job {job.name} is suspended by another controller or a user; the attempt starts when "
            f"spec.suspend of the Job is false: kubectl get job -n {job.namespace} {job.name} -o yaml"
        )
        return Blocker(reasons.JOB_SUSPENDED, message, job_uid=job.uid)
    found = snapshot.blocker
    if found is None or found.job_uid != job.uid or job.has_pod or job.ending:
        return None
    if found.reason == reasons.JOB_CONTROLLER_BACKLOG and now < job.created + BACKLOG_AFTER:
        return None
    return found


def _explanation(snapshot: Snapshot, job: Execution, now: datetime) -> tuple[list[Action], list[datetime]]:
    """Return the action that finds out why a Job has no pod, if it is due, and when to decide again."""
    found = snapshot.blocker
    known_until = found.until if found is not None and found.job_uid == job.uid else None
    due, shown_at = max(job.created + EXPLAIN_AFTER, known_until or job.created), job.created + BACKLOG_AFTER
    wakes = [shown_at] if now < shown_at else []
    return ([ExplainJob(job.name, job.uid)], wakes) if now >= due else ([], [due, *wakes])
