"""Times that are computed from the spec of a task."""

from datetime import datetime, timedelta

from asyncflow.api.asynctask import AsyncTask
from asyncflow.api.tasktype import TaskType


def due_since(task: AsyncTask) -> datetime:
    """Return since when this run of the task is due.

    It is the latest of the task's creation, its notBefore, and the request for this run.
    """
    created = task.metadata.creation_timestamp
    assert created is not None, "the API server sets creationTimestamp on every object"
    return max(t for t in (created, task.spec.not_before, task.status.run_time) if t is not None)


def total_end(task: AsyncTask, task_type: TaskType | None) -> datetime | None:
    """Return when this run of the task must have ended; None if it has no total deadline."""
    total = task.spec.deadlines.total_seconds or (
        task_type.spec.deadlines.total_seconds if task_type else None
    )
    return due_since(task) + timedelta(seconds=total) if total else None
