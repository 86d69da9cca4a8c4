"""What blocks a task: one model for all that keeps an attempt from starting, or a Job from having its pod."""

from dataclasses import dataclass
from datetime import datetime

from asyncflow.api import asynctask as api


@dataclass(frozen=True, slots=True)
class Blocker:
    """What blocks the next attempt, or the Job of the one that was started."""

    reason: str = ""
    """Empty: it blocks for a moment only, and nothing is written."""
    message: str = ""
    until: datetime | None = None
    """When it is over, or looked at again, if time alone tells."""
    condition: str = api.WAITING
    """The condition that shows it."""
    job_uid: str = ""
    """The Job that it blocks, if the attempt was started."""
    keeps_place: bool = False
    """Whether the task keeps its place in the order meanwhile: it may start as soon as it is let through."""
