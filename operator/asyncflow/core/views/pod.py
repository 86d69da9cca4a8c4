"""The view of an attempt's pod: the fields that the rules use."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncflow.api import names
from asyncflow.api.meta import parse_time
from asyncflow.core.views.fields import number, optional_time, task_uid


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
    blocked_by: str = ""
    """Why it does not start, in one word: ``Unschedulable``, ``ImagePullBackOff``, …"""
    blocked_message: str = ""
    disruption: str = ""
    """The reason of the pod's ``DisruptionTarget`` condition."""
    exit_code: int | None = None
    """The first exit code other than 0 of the containers; 0 if there is none, None if none has ended."""
    dead: bool = False
    """Whether the kubelet has reported the end of every container that it will ever start."""
    attempt: int = 0
    job_name: str = ""
    gone: bool = False
    """Whether a list showed that it no longer exists."""

    @property
    def sealed(self) -> bool:
        """Whether its kubelet would start no more containers of it, even if the node came back."""
        return self.terminal or self.deleting or self.gone

    @property
    def terminal(self) -> bool:
        """Whether the pod is in a phase that it never leaves."""
        return self.phase in ("Failed", "Succeeded")


def pod_view(body: dict[str, Any]) -> PodView | None:
    """Read a pod; return None if it is not the pod of an attempt."""
    meta = body["metadata"]
    labels = meta.get("labels") or {}
    owner_uid = task_uid(labels)
    if owner_uid is None:
        return None
    status = body.get("status") or {}
    states = [
        container.get("state") or {}
        for group in ("initContainerStatuses", "containerStatuses")
        for container in status.get(group) or ()
    ]
    ended = [state["terminated"] for state in states if "terminated" in state]
    codes = [end.get("exitCode", 0) for end in ended]
    disruption: dict[str, Any] = next(
        (
            c
            for c in status.get("conditions") or ()
            if c["type"] == "DisruptionTarget" and c["status"] == "True"
        ),
        {},
    )
    blocked = _blocked_by(status, states)
    owner: dict[str, Any] = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), {})
    return PodView(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        task_uid=owner_uid,
        job_uid=owner.get("uid") or labels.get("batch.kubernetes.io/controller-uid", ""),
        phase=status.get("phase", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        node_name=(body.get("spec") or {}).get("nodeName", ""),
        created=optional_time(meta.get("creationTimestamp")),
        start_time=optional_time(status.get("startTime")),
        blocked_by=blocked[0],
        blocked_message=blocked[1],
        end_time=max((parse_time(end["finishedAt"]) for end in ended if end.get("finishedAt")), default=None),
        deleting="deletionTimestamp" in meta,
        disruption=disruption.get("reason", ""),
        exit_code=next((code for code in codes if code), 0 if codes else None),
        dead=len(ended) == len(states) == _containers(body) or _failed_at_init(body),
        attempt=number(labels.get(names.ATTEMPT_LABEL)),
        job_name=labels.get("batch.kubernetes.io/job-name", ""),
    )


NORMAL_WAITING_REASONS = ("ContainerCreating", "PodInitializing")
"""Reasons for which every container waits while it starts."""


def _blocked_by(status: dict[str, Any], states: list[dict[str, Any]]) -> tuple[str, str]:
    """Return why a pod does not start, as reason and message; both are empty if nothing blocks it."""
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason") or "Unschedulable", condition.get("message", "")
    for state in states:
        waiting = state.get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason not in NORMAL_WAITING_REASONS:
            return "ImagePullBackOff" if reason == "ErrImagePull" else reason, waiting.get("message", "")
    return "", ""


def _failed_at_init(body: dict[str, Any]) -> bool:
    """Return whether an init container failed before any other container ran: no other is started then."""
    status, containers = body.get("status") or {}, (body.get("spec") or {}).get("containers") or ()
    states = [c.get("state") or {} for c in status.get("initContainerStatuses") or ()]
    failed = any(state.get("terminated", {}).get("exitCode") for state in states)
    waiting = ["waiting" in (c.get("state") or {}) for c in status.get("containerStatuses") or ()]
    idle = all(waiting) and len(waiting) == len(containers)
    return failed and idle and not any("running" in state for state in states)


def _containers(body: dict[str, Any]) -> int:
    spec = body.get("spec") or {}
    return len(spec.get("initContainers") or ()) + len(spec.get("containers") or ())
