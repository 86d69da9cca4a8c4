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
from asyncflow.core.ended import LAST_JOB_KEPT, after_the_end, unfinished
from asyncflow.core.history import fold, is_recorded
from asyncflow.core.observed import LockView
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

    So it is, too, if it has no Job and is not about to start, once its name has been kept free for so long
    that no create of it can still be on its way.
    """
    lock = seen.lock
    if lock is None or lock.task_uid != seen.task.metadata.uid:
        return decision
    if is_recorded(status, lock.attempt):
        return replace(decision, release=release(lock))
    if decision.start is not None or any(job.attempt == lock.attempt for job in seen.jobs):
        return decision
    due = lock.acquired + LAST_JOB_KEPT
    if now >= due:
        return replace(decision, release=release(lock))
    return replace(decision, wake=min(due, decision.wake or due))


def release(lock: LockView) -> ReleaseLock:
    """Return what frees a lock."""
    return ReleaseLock(lock.namespace, lock.name, lock.uid, lock.resource_version)
