"""What the parts of a leader's term share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.garbage_collector import GarbageCollector
from asyncflow.core.scheduling.admission import Admission
from asyncflow.kube.client import ApiClient
from asyncflow.kube.queue import WorkQueue
from asyncflow.kube.recorder import EventRecorder


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to every reconciler and governor of one term of leadership."""

    client: ApiClient
    """The way to the API server; its writes are gated by the leadership."""
    state: ClusterState
    """What is known of the cluster."""
    admission: Admission
    """Who may start."""
    recorder: EventRecorder
    """Where events are posted."""
    garbage_collector: GarbageCollector
    """Where objects are handed to be deleted."""
    tasks: WorkQueue
    """Tasks to reconcile, by uid."""
    types: WorkQueue
    """TaskTypes to reconcile, by ``namespace/name``."""
    clock: Callable[[], datetime]
    """The time, with its zone."""
