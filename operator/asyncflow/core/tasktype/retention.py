"""Retention: which ended tasks have to go, and how they stay in the counts.

First their uids are written into the type's status, and with them the sums that they go into; then they are
deleted. Whoever starts anew finds there what is still to be deleted and already counted: however often and
whenever the operator dies, no task is counted twice, and none is missed.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice

from asyncflow.api.asynctask import Phase
from asyncflow.api.tasktype import REMOVED_AT_ONCE, Counts, Removed, TaskType, TaskTypeStatus
from asyncflow.core.tasktype.census import Census
from asyncflow.core.tasktype.error_policy import without

FIELD = {Phase.SUCCEEDED: "succeeded", Phase.FAILED: "failed", Phase.CANCELLED: "cancelled"}


def removable(
    task_type: TaskType, census: Census, now: datetime, *, most: int, free: Callable[[str], bool]
) -> list[str]:
    """Return the tasks that have to go now, those that ended first before the others.

    Args:
        task_type: their type.
        census: its tasks.
        now: the moment.
        most: how many may be on their way out at once.
        free: tells of a task whether nothing depends on it any more: it has no Job, and nobody has asked for
            another run of it.
    """
    keep, room = (
        task_type.spec.retention,
        min(most, REMOVED_AT_ONCE) - len(remaining(task_type.status, census)),
    )
    if room <= 0:
        return []
    due = (
        census.ended_before(phase, now - timedelta(seconds=seconds), 2 * REMOVED_AT_ONCE)
        for phase, seconds in (
            (Phase.SUCCEEDED, keep.succeeded_seconds),
            (Phase.FAILED, keep.failed_seconds),
            (Phase.CANCELLED, keep.failed_seconds),
        )
    )
    return list(islice((uid for _, uid in heapq.merge(*due) if free(uid)), room))


def remaining(status: TaskTypeStatus, census: Census) -> list[str]:
    """Return the tasks that are on their way out and still there."""
    return [uid for uid in status.removed.removing if census.entry(uid) is not None]


def removed(status: TaskTypeStatus, census: Census, uids: list[str]) -> TaskTypeStatus:
    """Return a type's status with more tasks counted as removed: to be written before they are deleted."""
    found = [entry for uid in uids if (entry := census.entry(uid)) is not None]
    more = Counter(FIELD[entry.phase] for entry in found)
    sums = {name: getattr(status.removed, name) + more[name] for name in FIELD.values()}
    removing = (*remaining(status, census), *uids)
    status = without(status, census, uids)
    return status.model_copy(update={"removed": Removed(**sums, removing=removing)})


def counts(task_type: TaskType, census: Census) -> Counts:
    """Return how many tasks of a type there are in each phase, those that were removed included."""
    gone = task_type.status.removed  # what is about to be removed is still counted as present
    return Counts(
        pending=census.phase(Phase.PENDING),
        running=census.phase(Phase.RUNNING),
        succeeded=census.phase(Phase.SUCCEEDED) + gone.succeeded,
        failed=census.phase(Phase.FAILED) + gone.failed,
        cancelled=census.phase(Phase.CANCELLED) + gone.cancelled,
    )
