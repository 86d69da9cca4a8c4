"""What an error in answer to an attempt's create means: the start is refused, or its result is unknown."""

from datetime import timedelta

from asyncflow.api import reasons
from asyncflow.core.lifecycle.blocker import Blocker

FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(seconds=60)
"""How long a refused start waits before it is retried: at first, and at most."""

REFUSED = (400, 403, 404, 405, 413, 422)
"""HTTP statuses with which the API server says that it did not and will not create the Job."""


def refused_start(status: int, message: str) -> Blocker | None:
    """Return what blocks a start whose create was answered with an error.

    Args:
        status: the HTTP status.
        message: the message of the API server.

    Returns:
        None if it is unknown whether the Job was created: the slot stays taken, and the Job's name will tell.
    """
    if status == 504 or "etcdserver" in message:
        return None
    if status not in REFUSED:
        return Blocker(reasons.API_SERVER_ERROR, f"{status}: {message}")
    if "exceeded quota" in message:
        return Blocker(reasons.QUOTA_EXCEEDED, message)
    return Blocker(reasons.FORBIDDEN if status == 403 else reasons.JOB_REJECTED, message)


def pause_before_retry(refusals: int) -> timedelta:
    """Return how long a start waits that was refused so many times before: exponential, up to a minute."""
    doubled: timedelta = FIRST_PAUSE * 2 ** min(refusals, 8)
    return min(LONGEST_PAUSE, doubled)
