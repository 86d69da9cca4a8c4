"""Every rule of a task's life, by what the task is at.

`decide` looks at one task, its type, its Jobs and pods, and says what to do now. It is a pure function: it
can be asked again at any time, after any crash, and says the same; what it asks for may be done twice without
harm, because a Job's name is the claim of its attempt and an outcome is folded in once, by the attempt's
number.
"""

from dataclasses import replace
from datetime import datetime

from asyncflow.api.asynctask import AsyncTaskStatus
from asyncflow.core.attempt.settings import effective_settings
from asyncflow.core.lifecycle.actions import Decision, ReleaseLock
from asyncflow.core.lifecycle.finished import JOBS_KEPT, decide_finished, unfinished
from asyncflow.core.lifecycle.history import fold, is_recorded
from asyncflow.core.lifecycle.outcome import judge
from asyncflow.core.lifecycle.pending import decide_pending
from asyncflow.core.lifecycle.proof_of_death import outside_evidence, pod_of
from asyncflow.core.lifecycle.running import decide_running, look_for_evidence, stuck_without_proof
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.lease import LockView


def decide(snapshot: Snapshot, now: datetime) -> Decision:
    """Say what to do for a task now.

    Args:
        seen: what is known of the task.
        now: the moment, with its time zone.
    """
    task = snapshot.task
    if task.metadata.deletion_timestamp is not None:
        return Decision(live=bool(unfinished(snapshot)))  # its Jobs and pods go with it, as their owner's
    if task.status.phase.terminal:
        return _with_release(snapshot, task.status, decide_finished(snapshot, now), now)
    settings = effective_settings(task, snapshot.task_type) if snapshot.task_type else None
    folded = fold(snapshot, settings, now)
    if folded.needs_pod_read is not None:
        return look_for_evidence(folded.needs_pod_read, now)
    if folded.awaiting_proof is not None:
        return stuck_without_proof(snapshot, folded.status, *folded.awaiting_proof, now)
    if folded.live is not None:
        return decide_running(snapshot, folded, now)
    return _with_release(snapshot, folded.status, decide_pending(snapshot, folded.status, settings, now), now)


def _with_release(snapshot: Snapshot, status: AsyncTaskStatus, decision: Decision, now: datetime) -> Decision:
    """Free the lock that an attempt of this task holds, if it is proven dead.

    Without a Job and not about to start, it is given up once its name has been kept free for so long that no
    create of it can still be on its way.
    """
    lock = snapshot.lock
    if lock is None or lock.task_uid != snapshot.task.metadata.uid:
        return decision
    holder = next((job for job in snapshot.jobs if job.attempt.number == lock.attempt_number), None)
    if is_recorded(status, lock.attempt_number) or (
        holder is not None and _proven_dead(snapshot, holder, now)
    ):
        return replace(decision, release=release(lock))
    if decision.start is not None or holder is not None:
        return decision
    due = max(lock.acquired, snapshot.last_create or lock.acquired) + JOBS_KEPT
    if now >= due:
        return replace(decision, release=release(lock))
    return replace(decision, wake=min(due, decision.wake or due))


def _proven_dead(snapshot: Snapshot, job: Execution, now: datetime) -> bool:
    """Tell whether an attempt that will never be on record is dead: its task had ended before."""
    gone = job.uid in snapshot.gone
    if not (snapshot.task.status.phase.terminal and (job.closed or gone)):
        return False
    evidence = outside_evidence(snapshot, job, None, now)
    if not (job.finished or gone) and evidence is None:
        return False
    ending = judge(job, pod_of(snapshot, job.uid), gone=gone, looked=True, evidence=evidence)
    return ending is not None and ending.proof is not None


def release(lock: LockView) -> ReleaseLock:
    """Return what frees a lock."""
    return ReleaseLock(lock.namespace, lock.name, lock.uid, lock.resource_version)
