"""Pods of attempts, cut down to what the rules look at."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncflow.api import names
from asyncflow.api.meta import parse_time
from asyncflow.core.views.fields import moment, number, task_uid


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod of ours."""

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
    """What keeps it from starting, as one word: ``Unschedulable``, ``ImagePullBackOff``, …"""
    blocked_message: str = ""
    disruption: str = ""
    """The reason of the pod's ``DisruptionTarget`` condition."""
    exit_code: int | None = None
    """Of the first container that ended with other than 0, else 0 if all ended, else unknown."""
    dead: bool = False
    """Whether the kubelet has said of every container that it has ended."""
    attempt: int = 0
    job_name: str = ""
    gone: bool = False
    """Whether a list showed that it no longer exists."""

    @property
    def sealed(self) -> bool:
        """Whether its kubelet starts nothing of it any more, should it come back."""
        return self.terminal or self.deleting or self.gone

    @property
    def terminal(self) -> bool:
        """Whether the pod is in a phase that it never leaves."""
        return self.phase in ("Failed", "Succeeded")


def pod_view(body: dict[str, Any]) -> PodView | None:
    """Read a pod; return None for one that no attempt of ours made."""
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
        created=moment(meta.get("creationTimestamp")),
        start_time=moment(status.get("startTime")),
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


QUIET_STATES = ("ContainerCreating", "PodInitializing")
"""What every container waits for on its way."""


def _blocked_by(status: dict[str, Any], states: list[dict[str, Any]]) -> tuple[str, str]:
    """Return what keeps a pod from starting: reason and sentence, empty if nothing does."""
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition.get("reason") or "Unschedulable", condition.get("message", "")
    for state in states:
        waiting = state.get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason not in QUIET_STATES:
            return "ImagePullBackOff" if reason == "ErrImagePull" else reason, waiting.get("message", "")
    return "", ""


def _failed_at_init(body: dict[str, Any]) -> bool:
    """Tell whether an init container failed before any other container ran: then none is started any more."""
    status, mains = body.get("status") or {}, (body.get("spec") or {}).get("containers") or ()
    states = [c.get("state") or {} for c in status.get("initContainerStatuses") or ()]
    failed = any(state.get("terminated", {}).get("exitCode") for state in states)
    waiting = ["waiting" in (c.get("state") or {}) for c in status.get("containerStatuses") or ()]
    idle = all(waiting) and len(waiting) == len(mains)
    return failed and idle and not any("running" in state for state in states)


def _containers(body: dict[str, Any]) -> int:
    spec = body.get("spec") or {}
    return len(spec.get("initContainers") or ()) + len(spec.get("containers") or ())
