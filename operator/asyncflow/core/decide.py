"""Every rule of a task's life, by what the task is at.

`decide` looks at one task, its type, its Jobs and pods, and says what to do now. It is a pure function: it
can be asked again at any time, after any crash, and says the same; what it asks for may be done twice without
harm, because a Job's name is the claim of its attempt and an outcome is folded in once, by the attempt's
number.
"""

from dataclasses import replace
from datetime import datetime

from asyncflow.api.asynctask import AsyncTaskStatus
from asyncflow.core.actions import Decision, ReleaseLock
from asyncflow.core.between import between_attempts
from asyncflow.core.ended import JOBS_KEPT, after_the_end, unfinished
from asyncflow.core.evidence import outside_evidence, pod_of
from asyncflow.core.history import fold, is_recorded
from asyncflow.core.observed import JobView, LockView
from asyncflow.core.outcome import judge
from asyncflow.core.rules import rules_for
from asyncflow.core.running import look_for_evidence, stuck_without_proof, while_running
from asyncflow.core.snapshot import Snapshot


def decide(seen: Snapshot, now: datetime) -> Decision:
    """Say what to do for a task now.

    Args:
        seen: what is known of the task.
        now: the moment, with its time zone.
    """
    task = seen.task
    if task.metadata.deletion_timestamp is not None:
        return Decision(live=bool(unfinished(seen)))  # its Jobs and pods go with it, as their owner's
    if task.status.phase.terminal:
        return _with_release(seen, task.status, after_the_end(seen, now), now)
    rules = rules_for(task, seen.kind) if seen.kind else None
    folded = fold(seen, rules, now)
    if folded.unread is not None:
        return look_for_evidence(folded.unread, now)
    if folded.unproven is not None:
        return stuck_without_proof(seen, folded.status, *folded.unproven, now)
    if folded.live is not None:
        return while_running(seen, folded, now)
    return _with_release(seen, folded.status, between_attempts(seen, folded.status, rules, now), now)


def _with_release(seen: Snapshot, status: AsyncTaskStatus, decision: Decision, now: datetime) -> Decision:
    """Free the lock that an attempt of this task holds, if it is proven dead.

    Without a Job and not about to start, it is given up once its name has been kept free for so long that no
    create of it can still be on its way.
    """
    lock = seen.lock
    if lock is None or lock.task_uid != seen.task.metadata.uid:
        return decision
    holder = next((job for job in seen.jobs if job.attempt == lock.attempt), None)
    if is_recorded(status, lock.attempt) or (holder is not None and _proven_dead(seen, holder, now)):
        return replace(decision, release=release(lock))
    if decision.start is not None or holder is not None:
        return decision
    due = max(lock.acquired, seen.last_create or lock.acquired) + JOBS_KEPT
    if now >= due:
        return replace(decision, release=release(lock))
    return replace(decision, wake=min(due, decision.wake or due))


def _proven_dead(seen: Snapshot, job: JobView, now: datetime) -> bool:
    """Tell whether an attempt that will never be on record is dead: its task had ended before."""
    gone = job.uid in seen.gone
    if not (seen.task.status.phase.terminal and (job.closed or gone)):
        return False
    evidence = outside_evidence(seen, job, None, now)
    if not (job.finished or gone) and evidence is None:
        return False
    ending = judge(job, pod_of(seen, job.uid), gone=gone, looked=True, evidence=evidence)
    return ending is not None and ending.proof is not None


def release(lock: LockView) -> ReleaseLock:
    """Return what frees a lock."""
    return ReleaseLock(lock.namespace, lock.name, lock.uid, lock.resource_version)
