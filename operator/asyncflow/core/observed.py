"""What is seen of Jobs and pods, cut down to what the rules look at."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from asyncflow.api import names
from asyncflow.api.meta import parse_time

EXIT_CODE = re.compile(r"\bfailed with exit code (\d+)\b")
"""As the Job controller puts it into a condition's message if an exit-code rule failed the Job (KEP-3329)."""

POLICY_REASON = "PodFailurePolicy"
DEADLINE_REASON = "DeadlineExceeded"


@dataclass(frozen=True, slots=True)
class JobView:
    """One Job of ours: one attempt."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    task_uid: str
    task_name: str
    type_name: str
    attempt: int
    run: int
    stage: int
    created: datetime
    deleting: bool = False
    cut_short: bool = False
    """Whether somebody deleted it before it had finished."""
    complete: bool = False
    failed: bool = False
    ending: bool = False
    """A terminal condition is coming (``FailureTarget`` or ``SuccessCriteriaMet``), the pod may still run."""
    reason: str = ""
    message: str = ""
    finish_time: datetime | None = None
    has_pod: bool = False
    """Whether the Job controller has made its pod."""
    succeeded: int = 0
    stop_reason: str = ""
    stop_message: str = ""
    never_bound: bool = False
    """Whether its only pod was deleted before it had a node: there will be no other."""
    start_time: datetime | None = None
    """When the Job controller took it up."""
    deadline_seconds: int = 0
    """The Job's own ``activeDeadlineSeconds``, counted from its ``start_time``."""
    attempt_seconds: int = 0
    grace_seconds: int = 0
    margin_seconds: int = 0
    pending_seconds: int = 0
    lease_token: int = 0
    lease_acquired: datetime | None = None
    lease_expires: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether the Job controller has said its last word."""
        return self.complete or self.failed

    @property
    def closed(self) -> bool:
        """Whether the Job controller makes no pod of it any more, though one may still run."""
        return self.finished or self.ending or self.deleting

    @property
    def exit_code(self) -> int | None:
        """The exit code that the Job's message keeps, if a rule on exit codes failed it."""
        found = EXIT_CODE.search(self.message) if self.reason == POLICY_REASON else None
        return int(found.group(1)) if found else None

    @property
    def disrupted(self) -> bool:
        """Whether the rule on ``DisruptionTarget`` failed the Job: what says nothing of its processes."""
        return self.reason == POLICY_REASON and "DisruptionTarget" in self.message


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
    obstacle: str = ""
    """What keeps it from starting, as one word: ``Unschedulable``, ``ImagePullBackOff``, …"""
    obstacle_message: str = ""
    disruption: str = ""
    """The reason of the pod's ``DisruptionTarget`` condition."""
    exit_code: int | None = None
    """Of the first container that ended with other than 0, else 0 if all ended, else unknown."""
    dead: bool = False
    """Whether the kubelet has said of every container that it has ended."""
    attempt: int = 0
    job_name: str = ""
    gone: bool = False
    """Whether it was looked for and not there any more."""

    @property
    def sealed(self) -> bool:
        """Whether its kubelet starts nothing of it any more, should it come back."""
        return self.terminal or self.deleting or self.gone

    @property
    def terminal(self) -> bool:
        """Whether the pod is in a phase that it never leaves."""
        return self.phase in ("Failed", "Succeeded")


def job_view(body: dict[str, Any]) -> JobView | None:
    """Read a Job; return None for one that no attempt of ours made."""
    meta = body["metadata"]
    labels = meta.get("labels") or {}
    annotations = meta.get("annotations") or {}
    task_uid = _task_uid(labels)
    owner: dict[str, Any] = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), {})
    if task_uid is None or owner.get("uid") != task_uid:
        return None  # somebody's copy of a Job of ours bears its labels, too
    status = body.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
    last = conditions.get("Complete") or conditions.get("Failed") or conditions.get("FailureTarget") or {}
    finish_time = _time(status.get("completionTime") or last.get("lastTransitionTime"))
    deleted = _time(meta.get("deletionTimestamp"))
    rules, lease = (
        _record(annotations.get(name)) for name in (names.RULES_ANNOTATION, names.LEASE_ANNOTATION)
    )
    return JobView(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        task_uid=task_uid,
        task_name=labels.get(names.TASK_NAME_LABEL, ""),
        type_name=labels.get(names.TYPE_LABEL, ""),
        attempt=_number(labels.get(names.ATTEMPT_LABEL)),
        run=_count(rules.get("run")) or 1,
        stage=_count(rules.get("stage")),
        created=parse_time(meta["creationTimestamp"]),
        deleting="deletionTimestamp" in meta,
        complete="Complete" in conditions,
        failed="Failed" in conditions,
        ending="FailureTarget" in conditions or "SuccessCriteriaMet" in conditions,
        reason=last.get("reason", ""),
        message=last.get("message", ""),
        finish_time=finish_time,
        cut_short=deleted is not None and (finish_time is None or finish_time >= deleted),
        has_pod=any(status.get(count) for count in ("active", "terminating", "succeeded", "failed"))
        or any((status.get("uncountedTerminatedPods") or {}).values()),
        succeeded=status.get("succeeded", 0),
        stop_reason=annotations.get(names.STOP_REASON_ANNOTATION, ""),
        stop_message=annotations.get(names.STOP_MESSAGE_ANNOTATION, ""),
        never_bound=names.NEVER_BOUND_ANNOTATION in annotations,
        start_time=_time(status.get("startTime")),
        deadline_seconds=(body.get("spec") or {}).get("activeDeadlineSeconds") or 0,
        attempt_seconds=_count(rules.get("attemptSeconds")),
        grace_seconds=_count(rules.get("graceSeconds")),
        margin_seconds=_count(rules.get("marginSeconds")),
        pending_seconds=_count(rules.get("pendingSeconds")),
        lease_token=_count(lease.get("token")),
        lease_acquired=_time(lease.get("acquired")),
        lease_expires=_time(lease.get("expires")),
    )


def pod_view(body: dict[str, Any]) -> PodView | None:
    """Read a pod; return None for one that no attempt of ours made."""
    meta = body["metadata"]
    labels = meta.get("labels") or {}
    task_uid = _task_uid(labels)
    if task_uid is None:
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
    obstacle = _obstacle(status, states)
    owner: dict[str, Any] = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), {})
    return PodView(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        task_uid=task_uid,
        job_uid=owner.get("uid") or labels.get("batch.kubernetes.io/controller-uid", ""),
        phase=status.get("phase", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        node_name=(body.get("spec") or {}).get("nodeName", ""),
        created=_time(meta.get("creationTimestamp")),
        start_time=_time(status.get("startTime")),
        obstacle=obstacle[0],
        obstacle_message=obstacle[1],
        end_time=max((parse_time(end["finishedAt"]) for end in ended if end.get("finishedAt")), default=None),
        deleting="deletionTimestamp" in meta,
        disruption=disruption.get("reason", ""),
        exit_code=next((code for code in codes if code), 0 if codes else None),
        dead=len(ended) == len(states) == _containers(body) or _failed_at_init(body),
        attempt=_number(labels.get(names.ATTEMPT_LABEL)),
        job_name=labels.get("batch.kubernetes.io/job-name", ""),
    )


def _task_uid(labels: dict[str, str]) -> str | None:
    """Return whose attempt an object belongs to; None if it is not ours."""
    ours = labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY
    return labels.get(names.TASK_UID_LABEL) if ours else None


QUIET_STATES = ("ContainerCreating", "PodInitializing")
"""What every container waits for on its way."""


def _obstacle(status: dict[str, Any], states: list[dict[str, Any]]) -> tuple[str, str]:
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


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _record(text: str | None) -> dict[str, Any]:
    """Return what an annotation holds as JSON; nothing, if somebody has put other text there."""
    try:
        found = orjson.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _time(text: object) -> datetime | None:
    try:
        return parse_time(text) if isinstance(text, str) and text else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node, as far as it tells of the processes that ran there."""

    name: str
    boot: str
    """Its machine and its boot: ``systemUUID/bootID``."""
    ready: bool
    out_of_service: bool
    seen: datetime
    """When it was looked at."""

    def rebooted_since(self, boot: str) -> bool:
        """Tell whether this is the same machine after another boot than that one."""
        machine, _, boot_id = self.boot.rpartition("/")
        before, _, boot_id_before = boot.rpartition("/")
        return (
            bool(machine and boot_id and boot_id_before) and machine == before and boot_id != boot_id_before
        )


def node_view(body: dict[str, Any], now: datetime) -> NodeView:
    """Read a node, as it is now."""
    status = body.get("status") or {}
    info = status.get("nodeInfo") or {}
    return NodeView(
        name=body["metadata"]["name"],
        boot=f"{info.get('systemUUID', '')}/{info.get('bootID', '')}",
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()),
        out_of_service=any(
            taint["key"] == names.OUT_OF_SERVICE_TAINT
            for taint in (body.get("spec") or {}).get("taints") or ()
        ),
        seen=now,
    )


@dataclass(frozen=True, slots=True)
class LockView:
    """The Lease of a lockKey: as long as it is there, its holder has the key."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    holder: str
    """Task uid, run, stage and attempt, as `holder_name` makes it."""
    acquired: datetime

    @property
    def task_uid(self) -> str:
        """The task whose attempt holds it."""
        return self.holder.split("/", 1)[0]

    @property
    def attempt(self) -> int:
        """The number of the attempt that holds it."""
        return _number(self.holder.rpartition("/")[2])

    @property
    def token(self) -> int:
        """The fencing token: the version that the API server gave the Lease when it was made."""
        return int(self.resource_version)


def lock_view(body: dict[str, Any]) -> LockView | None:
    """Read a Lease; return None for one that is not a lock of ours."""
    meta, spec = body["metadata"], body.get("spec") or {}
    if names.LOCK_LABEL not in (meta.get("labels") or {}) or "deletionTimestamp" in meta:
        return None
    return LockView(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        holder=spec.get("holderIdentity") or "",
        acquired=_time(spec.get("acquireTime")) or parse_time(meta["creationTimestamp"]),
    )
