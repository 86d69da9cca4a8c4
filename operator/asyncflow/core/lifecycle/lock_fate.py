"""The fate of a lock: held, free, or orphaned.

A lock is released on proof of death of the attempt that holds it, or when it is certain that no Job of that
attempt was or can be created. Time alone releases no other lock: one whose holder is gone without evidence is
orphaned, and an administrator decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncflow.api.asynctask import AsyncTask, AsyncTaskStatus
from asyncflow.core.lifecycle.actions import ReleaseLock
from asyncflow.core.lifecycle.finished import JOBS_KEPT
from asyncflow.core.lifecycle.history import is_recorded
from asyncflow.core.lifecycle.outcome import judge
from asyncflow.core.lifecycle.proof_of_death import is_sealed, most_informative, outside_evidence, pod_of
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.lease import LockView
from asyncflow.core.views.pod import PodView


@dataclass(frozen=True, slots=True)
class LockFate:
    """Whether a lock is to be released now."""

    free: bool
    until: datetime | None = None
    """When to decide again if it is held and time may release it."""


def fate_while_task_exists(
    snapshot: Snapshot, status: AsyncTaskStatus, *, starts: bool, now: datetime
) -> LockFate:
    """Return the fate of the lock that an attempt of a task holds.

    The lock of an attempt without a Job that is not about to start is released once so much time has passed
    that no create of the Job can be in flight any more.

    Args:
        snapshot: what is known of the task; it has the lock.
        status: its status with all known outcomes.
        starts: whether the attempt that holds the lock is about to start.
        now: the moment.
    """
    lock = snapshot.lock
    assert lock is not None
    holder = next((job for job in snapshot.jobs if job.attempt.number == lock.attempt_number), None)
    if is_recorded(status, lock.attempt_number):
        return LockFate(free=True)
    if holder is not None and _proven_dead(snapshot, holder, now):
        return LockFate(free=True)
    if starts or holder is not None:
        return LockFate(free=False)
    due = max(lock.acquired, snapshot.last_create or lock.acquired) + JOBS_KEPT
    return LockFate(free=True) if now >= due else LockFate(free=False, until=due)


def _proven_dead(snapshot: Snapshot, job: Execution, now: datetime) -> bool:
    """Return whether there is proof of death of an attempt that no status records."""
    gone = job.uid in snapshot.gone
    if not (snapshot.task.status.phase.terminal and (job.closed or gone)):
        return False
    pod, listed = pod_of(snapshot, job.uid), job.uid in snapshot.pods_listed_at
    evidence = outside_evidence(snapshot, job, None, now) if is_sealed(snapshot, job, pod, now) else None
    if not (job.finished or gone) and evidence is None:
        return False
    ending = judge(job, pod, gone=gone, looked=listed, evidence=evidence)
    return ending is not None and ending.proof is not None


def free_after_deletion(
    lock: LockView, jobs: Sequence[Execution], pods: Sequence[PodView], gone: frozenset[str]
) -> bool:
    """Return whether to release a lock whose holder's task was deleted.

    Args:
        lock: the lock.
        jobs: the Jobs of that task, also such that were deleted.
        pods: its pods, as they were last seen.
        gone: the uids of Jobs among these that were deleted.
    """
    for job in jobs:
        over = job.finished or job.uid in gone or job.succeeded
        if job.attempt.number == lock.attempt_number and over:
            ending = judge(job, most_informative(pods, job.uid), gone=job.uid in gone, looked=True)
            if ending is not None and ending.proof is not None:
                return True
    return False


def is_orphaned(task: AsyncTask | None, jobs: Sequence[Execution], gone: frozenset[str]) -> bool:
    """Return whether an attempt of a finished or deleted task holds a lock, without evidence of its end.

    Args:
        task: the task of the attempt that holds the lock, if it exists.
        jobs: its Jobs, also such that were deleted.
        gone: the uids of Jobs among these that were deleted.
    """
    if task is not None and not (task.status.phase.terminal and jobs):
        return False
    return all(job.uid in gone for job in jobs)


def release(lock: LockView) -> ReleaseLock:
    """Return the action that releases a lock."""
    return ReleaseLock(lock.namespace, lock.name, lock.uid, lock.resource_version)
