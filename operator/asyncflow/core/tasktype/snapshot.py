"""Everything that a decision about a TaskType is based on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from asyncflow.api.asynctask import Phase
from asyncflow.api.tasktype import TaskType
from asyncflow.core.tasktype.census import Ending, Tally


class Due(StrEnum):
    """What a governor requests for a TaskType."""

    SPLIT = "split"
    """Open the next shard if the last one is full."""
    ROLL = "roll"
    """Count the tasks, retire shards without unfinished tasks, delete tasks whose retention is over."""


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """The API server's response to the dry run of a TaskType's Job."""

    reason: str = ""
    """Why the Job was rejected; empty if it was accepted."""
    message: str = ""
    suspended: bool = False
    """Whether the response has ``spec.suspend``, as a queueing controller such as Kueue sets it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the unfinished tasks of a TaskType wait for."""

    slots: int = 0
    """Tasks that wait only for a slot."""
    slots_since: datetime | None = None
    """Since when the first of these could have started."""
    tokens: int = 0
    """Retries that wait for a token of the retry budget."""
    first_attempts: int = 0
    """First attempts that have not been paid into the retry budget yet."""


@dataclass(frozen=True, slots=True)
class FinishedTask:
    """A finished task that nothing depends on any more: no Job, no lock, no request for another run."""

    uid: str
    name: str
    ending: Ending
    resource_version: str


@dataclass(frozen=True, slots=True)
class TypeSnapshot:
    """A TaskType and its tasks at one moment."""

    task_type: TaskType
    tally: Tally
    demand: Demand = Demand()
    due: frozenset[Due] = frozenset()
    last_dry_run: datetime | None = None
    """When this operator last ran the Job of the type as a dry run."""
    dry_run_result: DryRunResult | None = None
    """The result of the dry run that the decision before this one requested."""
    finished: Mapping[Phase, tuple[FinishedTask, ...]] | None = None
    """By phase, in order of ending: tasks whose retention is over; read only when `Due.ROLL` is due."""
