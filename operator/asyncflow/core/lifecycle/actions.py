"""What is to be done for a task: the values that `decide` returns and the shell carries out."""

from dataclasses import dataclass
from datetime import datetime

from asyncflow.api.asynctask import AsyncTaskStatus
from asyncflow.core.attempt.identity import AttemptId


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Create the attempt's Job, once the type has a slot for it."""

    attempt: AttemptId
    priority: int
    since: datetime
    """Since when the task may run: the order among tasks of one priority."""
    total_left: float | None = None
    """Seconds left of the task's total deadline."""
    first: bool = False
    """Whether it is the first of its run."""
    takes_token: bool = False
    """Whether it is a retry that draws on the budget of the type."""
    lock_key: str | None = None
    """The key that has to be free, if the task has one."""


@dataclass(frozen=True, slots=True)
class StopJob:
    """End an attempt at its node; or, if no pod of it is bound to one, see that none will be."""

    name: str
    uid: str
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class CloseJob:
    """See that a Job makes no other pod; what runs on a node is not waited for."""

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
    """Read the pods of a Job: its outcome can't be told without them."""

    job_name: str
    job_uid: str


@dataclass(frozen=True, slots=True)
class FindPod:
    """See where an attempt runs: not at once, but together with the others of its type."""


@dataclass(frozen=True, slots=True)
class ExplainJob:
    """Find out from its events why a Job has no pod."""

    job_name: str
    job_uid: str


@dataclass(frozen=True, slots=True)
class PostEvent:
    """Tell people, as a Kubernetes event on the task."""

    reason: str
    message: str
    warning: bool = True


@dataclass(frozen=True, slots=True)
class ReleaseLock:
    """Free the lock that an attempt held: it is proven dead."""

    namespace: str
    name: str
    uid: str
    resource_version: str


Action = StopJob | CloseJob | DeleteJob | ReadPods | FindPod | ExplainJob | PostEvent


@dataclass(frozen=True, slots=True)
class Decision:
    """All that is to be done for a task now.

    A lock is freed first: its holder, and all evidence, may be gone when the status is written.
    Then comes the status; what deletes the evidence of an outcome comes after its record.
    """

    release: ReleaseLock | None = None
    """The lock to free."""
    status: AsyncTaskStatus | None = None
    """The status to write, if it differs from the one there."""
    start: StartAttempt | None = None
    """The attempt to start. If a slot is free, it is started and the status is left for later."""
    actions: tuple[Action, ...] = ()
    wake: datetime | None = None
    """When to look again, if nothing happens before."""
    live: bool = False
    """Whether the task holds a slot of its type."""
