"""What blocks a task: the one model of why an attempt does not start, or a Job has no running pod."""

from dataclasses import dataclass
from datetime import datetime

from asyncflow.api import asynctask as api


@dataclass(frozen=True, slots=True)
class Blocker:
    """Blocks the next attempt, or the Job of the current one."""

    reason: str = ""
    """Empty for a blocker that is resolved within moments: it is not written into the status."""
    message: str = ""
    until: datetime | None = None
    """When it ends or is checked again; None if an event ends it."""
    condition: str = api.WAITING
    """The condition of the task that shows it."""
    job_uid: str = ""
    """The Job that it blocks; empty if it blocks the start."""
    keeps_place: bool = False
    """Whether the task stays in the admission queues: it starts as soon as it is admitted."""
