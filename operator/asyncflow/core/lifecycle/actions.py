"""What to do for a task: the values that `decide` returns and the controller carries out."""

from dataclasses import dataclass
from datetime import datetime

from asyncflow.api.asynctask import AsyncTaskStatus
from asyncflow.core.attempt.identity import AttemptId


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Create the attempt's Job once admission grants a slot; until then the task is queued."""

    attempt: AttemptId
    priority: int
    since: datetime
    """Since when the task may run; decides the order among tasks of equal priority."""
    total_left: float | None = None
    """Seconds left of the task's total deadline."""
    first: bool = False
    """Whether it is the first of its run."""
    takes_token: bool = False
    """Whether it is a retry that takes a token of the type's retry budget."""
    lock_key: str | None = None
    """The lock key that has to be taken first, if the task has one."""


@dataclass(frozen=True, slots=True)
class StopJob:
    """Stop an attempt on its node; or, if its pod is not bound to a node, prevent that it ever is."""

    name: str
    uid: str
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class CloseJob:
    """Prevent that a Job creates another pod, without waiting for what runs on a node."""

    name: str
    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job whose outcome has been recorded."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class ReadPods:
    """Read the pods of a Job: its outcome is unknown without them."""

    job_name: str
    job_uid: str


@dataclass(frozen=True, slots=True)
class FindPod:
    """Find the pod of an attempt, with one list for all attempts of the type."""


@dataclass(frozen=True, slots=True)
class ExplainJob:
    """Read the events of a Job without a pod for the cause."""

    job_name: str
    job_uid: str


@dataclass(frozen=True, slots=True)
class PostEvent:
    """Post a Kubernetes event on the task."""

    reason: str
    message: str
    warning: bool = True


@dataclass(frozen=True, slots=True)
class ReleaseLock:
    """Release the lock that an attempt held: there is proof of its death."""

    namespace: str
    name: str
    uid: str
    resource_version: str


Action = StopJob | CloseJob | DeleteJob | ReadPods | FindPod | ExplainJob | PostEvent


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything to do for a task now, in this order.

    A lock is released first: the evidence about its holder may be gone when the status is written. The status
    comes next, so that an outcome is on record before actions delete its evidence.
    """

    release: ReleaseLock | None = None
    """The lock to release."""
    status: AsyncTaskStatus | None = None
    """The status to write, if it differs from the one there."""
    start: StartAttempt | None = None
    """The attempt to start. If it has a slot, it is started now and the status is written later."""
    actions: tuple[Action, ...] = ()
    wake: datetime | None = None
    """When to decide again if nothing happens before."""
    live: bool = False
    """Whether the task holds a slot of its type."""
