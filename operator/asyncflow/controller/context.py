"""The dependencies that the parts of a leader term share."""

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
    """Passed to every reconciler and governor of one leader term."""

    client: ApiClient
    """The API client; it rejects writes unless this operator leads."""
    state: ClusterState
    """The cluster as last observed."""
    admission: Admission
    """Decides which tasks may start."""
    recorder: EventRecorder
    """Posts Kubernetes events."""
    garbage_collector: GarbageCollector
    """Deletes objects in the background."""
    tasks: WorkQueue
    """Tasks to reconcile, by uid."""
    types: WorkQueue
    """TaskTypes to reconcile, by ``namespace/name``."""
    clock: Callable[[], datetime]
    """Returns the current time, with its time zone."""
