"""The view of an attempt's pod: the fields that the rules use."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncflow.api import names
from asyncflow.core.views.containers import Containers, read_containers
from asyncflow.core.views.fields import count, number, optional_time, task_uid

REJECTED_WITHIN = timedelta(seconds=5)
"""A kubelet that rejects a new pod writes ``startTime`` and the rejection at once. A restarted kubelet may
reject a pod that has run, with the same status but for the time (kubernetes/kubernetes#123980)."""

POD_GC = "DeletionByPodGC"
"""The reason with which the pod garbage collector fails a pod without its kubelet."""


@dataclass(frozen=True, slots=True)
class PodView:
    """The pod of an attempt."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    task_uid: str
    job_uid: str
    phase: str
    reason: str = ""
    message: str = ""
    node_name: str = ""
    created: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    deleting: bool = False
    interrupted_at: datetime | None = None
    """When its deletion was requested, or a disruption announced, whichever was first."""
    blocked_by: str = ""
    """Why it does not start, in one word: ``Unschedulable``, ``ImagePullBackOff``, …"""
    blocked_message: str = ""
    preparing: str = ""
    """What its kubelet does before the first container starts, in words; empty once one has started."""
    disruption: str = ""
    """The reason of the pod's ``DisruptionTarget`` condition; ``Evicted`` for an eviction by the kubelet."""
    exit_code: int | None = None
    """The exit code of the main containers: see `Containers.exit_code`."""
    started: bool = False
    """Whether a container of it has started, in this or an earlier view of the pod."""
    dead: bool = False
    """Whether the kubelet has reported the end of every container that it will ever start."""
    rejected: bool = False
    """Whether its kubelet rejected it before it created a container."""
    attempt: int = 0
    job_name: str = ""
    gone: bool = False
    """Whether a list showed that it no longer exists."""

    @property
    def terminal(self) -> bool:
        """Whether the pod is in a phase that it never leaves."""
        return self.phase in ("Failed", "Succeeded")

    @property
    def never_bound(self) -> bool:
        """Whether it is being deleted without a node: the scheduler does not bind it any more."""
        return self.deleting and not self.node_name

    @property
    def interrupted(self) -> bool:
        """Whether its deletion or disruption came before the end of its containers (in whole seconds)."""
        return self.interrupted_at is not None and (
            self.end_time is None or self.interrupted_at <= self.end_time
        )


def pod_view(body: dict[str, Any]) -> PodView | None:
    """Read a pod; return None if it is not the pod of an attempt."""
    meta = body["metadata"]
    labels = meta.get("labels") or {}
    owner_uid = task_uid(labels)
    if owner_uid is None:
        return None
    status = body.get("status") or {}
    containers = read_containers(body)
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    disruption = conditions.get("DisruptionTarget") or {}
    disrupted = disruption.get("status") == "True"
    blocked = _blocked_by(conditions, containers)
    owner: dict[str, Any] = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), {})
    node_name = (body.get("spec") or {}).get("nodeName", "")
    start_time = optional_time(status.get("startTime"))
    reason = status.get("reason", "")
    moments = (
        _deletion_requested(meta),
        optional_time(disruption.get("lastTransitionTime")) if disrupted else None,
    )
    return PodView(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        task_uid=owner_uid,
        job_uid=owner.get("uid") or _job_uid_of_orphan(meta, labels),
        phase=status.get("phase", ""),
        reason=reason,
        message=status.get("message", ""),
        node_name=node_name,
        created=optional_time(meta.get("creationTimestamp")),
        start_time=start_time,
        end_time=containers.end_time,
        deleting="deletionTimestamp" in meta,
        interrupted_at=min((t for t in moments if t is not None), default=None),
        blocked_by=blocked[0],
        blocked_message=blocked[1],
        preparing=_preparing(conditions) if node_name and not containers.started else "",
        disruption=("Evicted" if reason == "Evicted" else disruption.get("reason", "")) if disrupted else "",
        exit_code=containers.exit_code,
        started=containers.started,
        dead=_is_dead(body, containers),
        rejected=_is_rejected(body, containers, start_time),
        attempt=number(labels.get(names.ATTEMPT_LABEL)),
        job_name=labels.get("batch.kubernetes.io/job-name", ""),
    )


def _job_uid_of_orphan(meta: dict[str, Any], labels: dict[str, str]) -> str:
    """Return the uid of the Job of an orphaned pod; "" for a copy of a pod under another name."""
    own_name = meta["name"].startswith(labels.get("batch.kubernetes.io/job-name", "") + "-")
    return labels.get("batch.kubernetes.io/controller-uid", "") if own_name else ""


def _deletion_requested(meta: dict[str, Any]) -> datetime | None:
    """Return when an object's deletion was requested: its grace period before ``deletionTimestamp``."""
    deadline = optional_time(meta.get("deletionTimestamp"))
    if deadline is None:
        return None
    return deadline - timedelta(seconds=count(meta.get("deletionGracePeriodSeconds")))


def _blocked_by(conditions: dict[str, Any], containers: Containers) -> tuple[str, str]:
    """Return why a pod does not start, as reason and message; both are empty if nothing blocks it."""
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return scheduled.get("reason") or "Unschedulable", scheduled.get("message", "")
    return containers.blocked_by, containers.blocked_message


def _preparing(conditions: dict[str, Any]) -> str:
    """Return what a kubelet does before the first container of a pod starts (KEP-3085)."""
    ready = (conditions.get("PodReadyToStartContainers") or {}).get("status")
    if ready == "True":
        return "pulling the image"
    return "mounting volumes or creating the sandbox" if ready == "False" else "preparing the pod"


def _is_dead(body: dict[str, Any], containers: Containers) -> bool:
    """Return whether the kubelet has reported the end of every container that it will ever start.

    In a pod that the kubelet itself declared terminal, a container that waits never ran, or will not again.
    """
    if containers.all_terminated or containers.failed_at_init:
        return True
    terminal = (body.get("status") or {}).get("phase") in ("Failed", "Succeeded")
    return terminal and containers.reported and not containers.any_running and _declared_by_kubelet(body)


def _is_rejected(body: dict[str, Any], containers: Containers, start_time: datetime | None) -> bool:
    """Return whether a kubelet rejected a pod at its admission, before it created a container of it."""
    status = body.get("status") or {}
    if status.get("phase") != "Failed" or not status.get("reason") or containers.started:
        return False
    if status.get("containerStatuses") or start_time is None or not _declared_by_kubelet(body):
        return False
    written = max((t for e in _status_writes(body) if (t := optional_time(e.get("time")))), default=None)
    return written is not None and written - start_time <= REJECTED_WITHIN


def _declared_by_kubelet(body: dict[str, Any]) -> bool:
    """Return whether the phase of a pod was written by its kubelet, and not by a controller."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    if any(c["type"] == "DisruptionTarget" and c.get("reason") == POD_GC for c in conditions):
        return False
    owners = [
        entry.get("manager", "")
        for entry in _status_writes(body)
        if "f:phase" in ((entry.get("fieldsV1") or {}).get("f:status") or {})
    ]
    return not any(owner.startswith("kube-controller-manager") for owner in owners)


def _status_writes(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [e for e in body["metadata"].get("managedFields") or () if e.get("subresource") == "status"]
