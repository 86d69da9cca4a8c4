"""How the API server's answer to the requests of a start is read: started, refused, or unknown.

Only a refusal frees the slot: no Job was created. After anything else the Job may exist; its name, which is
the claim, shows whether it does when the create is repeated.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from asyncflow.api import reasons

FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(seconds=60)
"""Pause before a refused start is retried: the first one, and the longest."""

REFUSED_STATUSES = (400, 403, 404, 405, 413, 422)
"""HTTP statuses with which the API server says that it did not and will not create the object."""


class Scope(StrEnum):
    """What a refusal applies to."""

    TASK = "task"
    TYPE = "type"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True)
class Refused:
    """The attempt was not started: no Job was or will be created by this start."""

    reason: str
    message: str
    scope: Scope
    """The other tasks that would be refused, too."""
    final: bool = True
    """Whether it is certain that the request had no effect: a lock taken for this start may be released."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is unknown whether the attempt was started."""

    message: str


def read_refusal(status: int, message: str) -> Refused | Unknown:
    """Return what an error response to a create request means for the start.

    Args:
        status: the HTTP status.
        message: the message of the API server.
    """
    if status == 504 or "etcdserver" in message:
        return Unknown(f"{status}: {message}")
    if status not in REFUSED_STATUSES:
        return Refused(reasons.API_SERVER_ERROR, f"{status}: {message}", Scope.TASK, final=False)
    if "exceeded quota" in message:
        return Refused(reasons.QUOTA_EXCEEDED, message, Scope.NAMESPACE)
    if status == 403:
        return Refused(reasons.FORBIDDEN, message, Scope.NAMESPACE)
    return Refused(reasons.JOB_REJECTED, message, Scope.TYPE)


def pause_before_retry(refusals: int) -> timedelta:
    """Return the pause after so many earlier refusals in a row: exponential, up to a minute."""
    doubled: timedelta = FIRST_PAUSE * 2 ** min(refusals, 8)
    return min(LONGEST_PAUSE, doubled)
