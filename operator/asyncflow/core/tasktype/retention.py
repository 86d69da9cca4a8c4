"""Retention: which finished tasks are due to be deleted."""

import heapq
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import islice
from operator import attrgetter

from asyncflow.api.asynctask import Phase
from asyncflow.api.tasktype import Retention
from asyncflow.core.tasktype.snapshot import FinishedTask


def cutoffs(keep: Retention, now: datetime) -> dict[Phase, datetime]:
    """Return for each terminal phase the moment before which a task must have ended to be deleted now."""
    return {
        Phase.SUCCEEDED: now - timedelta(seconds=keep.succeeded_seconds),
        Phase.FAILED: now - timedelta(seconds=keep.failed_seconds),
        Phase.CANCELLED: now - timedelta(seconds=keep.failed_seconds),
    }


def first_to_delete(
    finished: Mapping[Phase, tuple[FinishedTask, ...]], limit: int
) -> tuple[FinishedTask, ...]:
    """Return the tasks to delete, in order of ending.

    Args:
        finished: by phase, in order of ending: the tasks whose retention is over.
        limit: how many to return at most.
    """
    return tuple(islice(heapq.merge(*finished.values(), key=attrgetter("ending")), limit))
