"""Everything that a decision about a task is based on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from asyncflow.api.asynctask import AsyncTask
from asyncflow.api.tasktype import TaskType
from asyncflow.core.lifecycle.blocker import Blocker
from asyncflow.core.scheduling.admission import Gate
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.lease import LockView
from asyncflow.core.views.node import NodeView
from asyncflow.core.views.pod import PodView


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of one task at one moment."""

    task: AsyncTask
    task_type: TaskType | None
    """Its type, if there is one of this name."""
    dry_run_generation: int | None = None
    """The first generation of the type with the current Job: its dry run is valid for the later ones."""
    suspended_itself: str = ""
    """Why the type has suspended itself, if it has: errorPolicy."""
    jobs: tuple[Execution, ...] = ()
    pods: tuple[PodView, ...] = ()
    gone: frozenset[str] = frozenset()
    """The uids of Jobs among these that were deleted."""
    pods_listed_at: Mapping[str, datetime] = field(default_factory=dict)
    """By the uid of a Job that has ended: when its pods were last read."""
    blocker: Blocker | None = None
    """What blocked the last start, or blocks the current Job, as reported by the API server."""
    gate: Gate | None = None
    nodes: Mapping[str, NodeView] = field(default_factory=dict)
    """Nodes by name, as far as they were read."""
    lock: LockView | None = None
    """The lock of the task's key, held by this or another task."""
    last_create: datetime | None = None
    """When a create of a Job of the task was last sent, as far as known: it may still be in flight."""
    lock_orphaned: bool = False
    """Whether the lock is held by an attempt of a finished or deleted task, without proof of its death."""
