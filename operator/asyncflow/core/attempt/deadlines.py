"""The moments of a task's life that are computed from its spec."""

from datetime import datetime, timedelta

from asyncflow.api.asynctask import AsyncTask
from asyncflow.api.tasktype import TaskType


def due_since(task: AsyncTask) -> datetime:
    """Since when this run of the task is due: the latest of its creation, its notBefore and its request."""
    created = task.metadata.creation_timestamp
    assert created is not None, "the API server stamps every object"
    return max(t for t in (created, task.spec.not_before, task.status.run_time) if t is not None)


def total_end(task: AsyncTask, task_type: TaskType | None) -> datetime | None:
    """Return when this run of the task has to be over, if it has a total deadline."""
    total = task.spec.deadlines.total_seconds or (
        task_type.spec.deadlines.total_seconds if task_type else None
    )
    return due_since(task) + timedelta(seconds=total) if total else None
