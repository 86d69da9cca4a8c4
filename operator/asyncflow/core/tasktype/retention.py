"""Retention: which finished tasks are due to be deleted."""

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice

from asyncflow.api.asynctask import Phase
from asyncflow.api.tasktype import TaskType
from asyncflow.core.tasktype.census import Census


def removable(
    task_type: TaskType, census: Census, now: datetime, *, most: int, free: Callable[[str], bool]
) -> list[str]:
    """Return the uids of tasks that are due to be deleted, those that finished first before the others.

    Args:
        task_type: their type.
        census: its tasks.
        now: the moment.
        most: how many are returned at most.
        free: says of a task whether nothing depends on it any more: it has no Job, and nobody has asked for
            another run of it.
    """
    keep = task_type.spec.retention
    due = (
        census.ended_before(phase, now - timedelta(seconds=seconds), 2 * most)
        for phase, seconds in (
            (Phase.SUCCEEDED, keep.succeeded_seconds),
            (Phase.FAILED, keep.failed_seconds),
            (Phase.CANCELLED, keep.failed_seconds),
        )
    )
    return list(islice((uid for _, uid in heapq.merge(*due) if free(uid)), most))
