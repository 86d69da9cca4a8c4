"""What to do for a task now.

`decide` is a pure function of a task, its type, its Jobs and its pods. It may be called again at any time,
after any crash, and returns the same; what it returns may be carried out twice without harm, because a Job's
name is the claim of its attempt and an outcome is recorded once, by the attempt's number.
"""

from dataclasses import replace
from datetime import datetime

from asyncflow.api.asynctask import AsyncTaskStatus
from asyncflow.core.attempt.settings import effective_settings
from asyncflow.core.lifecycle.actions import Decision
from asyncflow.core.lifecycle.finished import decide_finished, unfinished
from asyncflow.core.lifecycle.history import fold
from asyncflow.core.lifecycle.lock_fate import fate_while_task_exists, release
from asyncflow.core.lifecycle.pending import decide_pending
from asyncflow.core.lifecycle.running import decide_running
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.stuck import read_evidence, stuck_without_proof


def decide(snapshot: Snapshot, now: datetime) -> Decision:
    """Return what to do for a task now.

    Args:
        snapshot: what is known of the task.
        now: the moment, with its time zone.
    """
    task = snapshot.task
    if task.metadata.deletion_timestamp is not None:
        return Decision(
            live=bool(unfinished(snapshot))
        )  # Kubernetes deletes its Jobs and pods, as its dependents
    if task.status.phase.terminal:
        return _with_release(snapshot, task.status, decide_finished(snapshot, now), now)
    settings = effective_settings(task, snapshot.task_type) if snapshot.task_type else None
    folded = fold(snapshot, settings, now)
    if folded.decide_at is not None:
        return Decision(live=True, wake=folded.decide_at)
    if folded.needs_pod_read is not None:
        return read_evidence(folded.needs_pod_read, now)
    if folded.awaiting_proof is not None:
        return stuck_without_proof(snapshot, folded.status, *folded.awaiting_proof, now)
    if folded.live is not None:
        return decide_running(snapshot, folded, now)
    return _with_release(snapshot, folded.status, decide_pending(snapshot, folded.status, settings, now), now)


def _with_release(snapshot: Snapshot, status: AsyncTaskStatus, decision: Decision, now: datetime) -> Decision:
    """Release the lock that an attempt of this task holds, or decide again when that may be due."""
    lock = snapshot.lock
    if lock is None or lock.task_uid != snapshot.task.metadata.uid:
        return decision
    fate = fate_while_task_exists(snapshot, status, starts=decision.start is not None, now=now)
    if fate.free:
        return replace(decision, release=release(lock))
    if fate.until is None:
        return decision
    return replace(decision, wake=min(fate.until, decision.wake or fate.until))
