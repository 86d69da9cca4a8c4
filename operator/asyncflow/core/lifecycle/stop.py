"""When a running attempt is stopped."""

from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.core.attempt.deadlines import total_end
from asyncflow.core.lifecycle import outcome
from asyncflow.core.lifecycle.blocker import Blocker
from asyncflow.core.lifecycle.history import Folded
from asyncflow.core.lifecycle.record import accepted
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.pod import PodView


def reason_to_stop(
    snapshot: Snapshot,
    folded: Folded,
    job: Execution,
    pod: PodView | None,
    blocker: Blocker | None,
    now: datetime,
) -> tuple[str, datetime | None]:
    """Return why an attempt is to be stopped, or is being stopped; else "" and when to decide again."""
    if job.stop_reason:
        return job.stop_reason, None
    if folded.duplicate_job:
        return outcome.STOP_TASK_ENDED, None
    if snapshot.task.spec.cancel:
        return outcome.STOP_CANCELLED, None
    end = total_end(snapshot.task, snapshot.task_type)
    if end is not None and now >= end:
        return outcome.STOP_TOTAL_DEADLINE, None
    if job.suspended and _has_had_pod(snapshot, job, pod):
        return outcome.STOP_SUSPENDED, None
    if accepted(pod) or job.ending or not job.pending_seconds:
        return "", end
    began = pod.created if pod is not None and pod.created else job.created
    due = began + timedelta(seconds=job.pending_seconds)
    # As long as the Job controller has not created the pod, without an error, the delay is not the task's.
    counts = pod is not None or (blocker is not None and blocker.reason != reasons.JOB_CONTROLLER_BACKLOG)
    if now >= due and counts:
        return outcome.STOP_NOT_STARTED, None
    return "", min((t for t in (end, due) if t is not None and t > now), default=None)


def _has_had_pod(snapshot: Snapshot, job: Execution, pod: PodView | None) -> bool:
    """Return whether a Job has had its one pod: were it resumed, it would create a second one."""
    recorded = any(a.job_uid == job.uid and a.pod_uid for a in snapshot.task.status.attempts)
    return job.has_pod or pod is not None or recorded
