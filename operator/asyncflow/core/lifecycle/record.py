"""What the status of a task records of its running attempt, and when.

An attempt is recorded once it has run for some seconds; a short one costs no write of its own. Its time
counts from the moment when the Job controller processes its Job: of thousands created at once, each waits
for that. Times of the API have whole seconds and the Job controller gathers pod updates for a second, so an
attempt whose process ends at once takes two to three seconds.
"""

from datetime import datetime, timedelta

from asyncflow.api import asynctask as api
from asyncflow.api.asynctask import AsyncTaskStatus, Phase, TaskLease
from asyncflow.core.attempt.settings import effective_settings
from asyncflow.core.lifecycle.history import attempt_entry, with_entry
from asyncflow.core.lifecycle.interventions import retry_now
from asyncflow.core.lifecycle.proof_of_death import early_confirmation, lease_end
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.status import with_reason
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.pod import PodView

RECORD_AFTER = timedelta(seconds=4)
"""When a running attempt is recorded; its pod is looked up then, so that one write has everything. As long as
no node has accepted the pod, and nothing blocks it, nothing is written."""

RECORD_ANYWAY = timedelta(seconds=30)
"""When an attempt is recorded with whatever is known of it."""


def running_since(job: Execution) -> datetime:
    """Return when the Job controller first processed a Job; until then, when the Job was created."""
    return job.start_time or job.created


def accepted(pod: PodView | None) -> bool:
    """Return whether a kubelet has accepted the pod."""
    return pod is not None and pod.start_time is not None


def running_status(
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
    if (request := retry_now(snapshot.task)) is not None:
        status = status.model_copy(update={"retry_now": request})  # fulfilled: an attempt runs
    if early := early_confirmation(snapshot, job, now):
        status = status.model_copy(update={"rejected_confirmation": early})
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
