"""The containers of a pod, as its kubelet reports them.

The main containers decide the result of an attempt: the exit code of a native sidecar (an init container with
``restartPolicy: Always``, KEP-753) has no meaning, since the kubelet ends it after the main containers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncflow.core.views.fields import optional_time

NORMAL_WAITING_REASONS = ("ContainerCreating", "PodInitializing")
"""Reasons for which every container waits while it starts."""


@dataclass(frozen=True, slots=True)
class Containers:
    """What the status of a pod says about its containers."""

    exit_code: int | None
    """The first exit code other than 0 of the main containers, else of the init containers that are no
    sidecars; 0 if some have ended with 0, None if none has ended."""
    end_time: datetime | None
    """When the last of those ended that decide the exit code."""
    started: bool
    """Whether any container was ever created or started, as far as the status shows."""
    reported: bool
    """Whether there is a status for every main container."""
    all_terminated: bool
    """Whether there is a status for every container, and each has terminated."""
    any_running: bool
    failed_at_init: bool
    """Whether an init container failed before any other container ran: no other is started then."""
    blocked_by: str
    """Why a container does not start, in one word: ``ImagePullBackOff``, …; empty if nothing blocks it."""
    blocked_message: str


def read_containers(body: dict[str, Any]) -> Containers:
    """Read the containers of a pod."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    specs, init_specs = spec.get("containers") or (), spec.get("initContainers") or ()
    sidecars = {c.get("name") for c in init_specs if c.get("restartPolicy") == "Always"}
    mains = status.get("containerStatuses") or ()
    inits = status.get("initContainerStatuses") or ()
    deciding_inits = [c for c in inits if c.get("name") not in sidecars]
    states = [c.get("state") or {} for c in (*inits, *mains)]
    failed_init = [t for t in _terminated(deciding_inits) if t.get("exitCode")]
    decisive = _terminated(mains) or failed_init
    codes = [t.get("exitCode", 0) for t in (*_terminated(mains), *failed_init)]
    running = any("running" in state for state in states)
    blocked_by, blocked_message = _blocked_by(states)
    return Containers(
        exit_code=next((code for code in codes if code), 0 if codes else None),
        end_time=max((t for end in decisive if (t := optional_time(end.get("finishedAt")))), default=None),
        started=any(c.get("containerID") or _has_run(c) for c in (*inits, *mains)),
        reported=bool(specs) and len(mains) == len(specs),
        all_terminated=len(states) == len(specs) + len(init_specs) == len(_terminated((*inits, *mains))),
        any_running=running,
        failed_at_init=bool(failed_init) and _idle(mains) and len(mains) == len(specs) and not running,
        blocked_by=blocked_by,
        blocked_message=blocked_message,
    )


def _terminated(statuses: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    states = [c.get("state") or {} for c in statuses]
    return [state["terminated"] for state in states if "terminated" in state]


def _has_run(container: dict[str, Any]) -> bool:
    """Return whether a container's status shows that it runs or has run."""
    states = (container.get("state") or {}, container.get("lastState") or {})
    return any("running" in state or "terminated" in state for state in states)


def _idle(statuses: Sequence[dict[str, Any]]) -> bool:
    return all("waiting" in (c.get("state") or {}) for c in statuses)


def _blocked_by(states: Sequence[dict[str, Any]]) -> tuple[str, str]:
    for state in states:
        waiting = state.get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason and reason not in NORMAL_WAITING_REASONS:
            return "ImagePullBackOff" if reason == "ErrImagePull" else reason, waiting.get("message", "")
    return "", ""
