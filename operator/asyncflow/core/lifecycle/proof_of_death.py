"""Proof of death from outside, where no node reports the end of an attempt's processes.

Neither an expired lease, nor a Job that failed by a disruption, nor a pod or Job that is gone is proof.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncflow.api.asynctask import Attempt, Proof
from asyncflow.core.attempt.lease import running_expiry
from asyncflow.core.attempt.settings import AttemptSettings
from asyncflow.core.lifecycle.interventions import (
    DeathConfirmation,
    confirmation_text,
    death_confirmation,
)
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.pod import PodView

NODE_VIEW_VALID = timedelta(seconds=60)
"""How long the view of a node that is not ready may be used as evidence: it may return at any time."""

NODE_SILENCE = timedelta(seconds=60)
"""A node that is ``Ready`` has reported within this time (node-monitor-grace-period is 50 s)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Proof of death from outside, or its waiver, and what it is based on."""

    proof: Proof
    detail: str
    node_lost: bool = True
    """Whether the node of the attempt is known to be lost."""


def recorded(snapshot: Snapshot, job: Execution) -> Attempt | None:
    """Return what the task's status has on record of an attempt."""
    return next((a for a in snapshot.task.status.attempts if a.number == job.attempt.number), None)


def pod_of(snapshot: Snapshot, job_uid: str) -> PodView | None:
    """Return the pod of a Job; of several the most informative one."""
    return most_informative(snapshot.pods, job_uid)


def most_informative(pods: Iterable[PodView], job_uid: str) -> PodView | None:
    """Return a Job's pod; of several one whose end is unknown: the end of another proves nothing."""
    return max(
        (pod for pod in pods if pod.job_uid == job_uid),
        key=lambda pod: (not (pod.terminal or pod.never_bound), int(pod.resource_version)),
        default=None,
    )


def kubelet_reports(snapshot: Snapshot, pod: PodView | None, now: datetime) -> bool:
    """Return whether the kubelet of a pod will report its end: then no evidence from outside counts.

    A kubelet in the middle of an image pull or a volume mount cannot be interrupted and starts the container
    afterwards, also if the pod is being deleted: on a node that is ready only the kubelet knows that nothing
    of a pod will start. A node that was not read yet, or not lately, is taken for ready.
    """
    if pod is None or pod.terminal or pod.gone or not pod.node_name:
        return False
    node = snapshot.nodes.get(pod.node_name)
    return node is None or node.ready or now - node.read_at > NODE_VIEW_VALID


def early_confirmation(snapshot: Snapshot, job: Execution, now: datetime) -> str:
    """Return the confirmation of an attempt on a node known to be ready: it is rejected; else ""."""
    if _confirmation_of(snapshot, job) is None:
        return ""
    pod = pod_of(snapshot, job.uid)
    node = snapshot.nodes.get(pod.node_name) if pod is not None else None
    known_ready = node is not None and node.ready and now - node.read_at <= NODE_VIEW_VALID
    return confirmation_text(snapshot.task) if known_ready and kubelet_reports(snapshot, pod, now) else ""


def needs_node_read(snapshot: Snapshot, job: Execution, now: datetime) -> bool:
    """Return whether the confirmation of an attempt can be evaluated only after its node was read."""
    reports = kubelet_reports(snapshot, pod_of(snapshot, job.uid), now)
    return (
        reports and _confirmation_of(snapshot, job) is not None and not early_confirmation(snapshot, job, now)
    )


def _confirmation_of(snapshot: Snapshot, job: Execution) -> DeathConfirmation | None:
    """Return the confirmation on the task if it names this attempt."""
    confirmation = death_confirmation(snapshot.task)
    names_it = confirmation is not None and confirmation.uid == named_by(snapshot, job)
    return confirmation if names_it else None


def is_sealed(snapshot: Snapshot, job: Execution, pod: PodView | None, now: datetime) -> bool:
    """Return whether nothing of an attempt with a closed Job can start any more, on a node that is lost."""
    if pod is None:
        return job.uid in snapshot.pods_listed_at
    return pod.terminal or pod.gone or (pod.deleting and not kubelet_reports(snapshot, pod, now))


def node_name_of(snapshot: Snapshot, job: Execution) -> str:
    """Return the name of the node of an attempt, as far as its pod or its record has it."""
    pod = pod_of(snapshot, job.uid)
    entry = recorded(snapshot, job)
    return (pod.node_name if pod else "") or (entry.node_name if entry else None) or ""


def named_by(snapshot: Snapshot, job: Execution) -> str:
    """Return the uid that a confirmation must name: that of the attempt's pod, if one was ever seen.

    A confirmation of a Job that may still create a pod would be about processes that do not exist yet.
    """
    pod = pod_of(snapshot, job.uid)
    entry = recorded(snapshot, job)
    return (pod.uid if pod else "") or (entry.pod_uid if entry else "") or job.uid


def lease_end(snapshot: Snapshot, job: Execution) -> datetime | None:
    """Return when an attempt's lease expires; None for a deleted Job whose lease is not on record."""
    pod = pod_of(snapshot, job.uid)
    if pod is not None and pod.start_time is not None and job.attempt_seconds:
        return running_expiry(
            pod.start_time,
            attempt_seconds=job.attempt_seconds,
            grace_seconds=job.grace_seconds,
            margin_seconds=job.margin_seconds,
        )
    recorded = snapshot.task.status.lease
    if recorded is not None and recorded.holder == job.name:
        return recorded.expire_time  # computed while its pod still existed
    if job.lease_expires is None or job.start_time is None or not job.was_suspended:
        return job.lease_expires
    return running_expiry(  # it started later than the lease on it assumes
        job.start_time + timedelta(seconds=job.deadline_seconds),
        attempt_seconds=job.attempt_seconds,
        grace_seconds=job.grace_seconds,
        margin_seconds=job.margin_seconds,
    )


def outside_evidence(
    snapshot: Snapshot, job: Execution, settings: AttemptSettings | None, now: datetime
) -> Evidence | None:
    """Return the proof that an attempt is fenced, or the waiver of proof; None while its kubelet reports.

    An attempt is fenced by an administrator's confirmation that names it; by the out-of-service taint on a
    node that is not ready, seen after the attempt began (KEP-2268); or by another boot of the same machine,
    once the lease has expired and the node is ready: its earlier processes are gone, and its kubelet has
    killed what it restarted.
    """
    pod = pod_of(snapshot, job.uid)
    if kubelet_reports(snapshot, pod, now):
        return None
    entry = recorded(snapshot, job)
    where = node_name_of(snapshot, job)
    node = snapshot.nodes.get(where)
    if (confirmation := _confirmation_of(snapshot, job)) is not None:
        return Evidence(
            Proof.FENCED,
            f"confirmed by an administrator: {confirmation.note or 'without a note'}",
            node_lost=node is not None and not node.ready,
        )
    end = lease_end(snapshot, job)
    began = (pod.start_time if pod else None) or (entry.start_time if entry else None) or job.created
    if node is not None and node.out_of_service and not node.ready and node.read_at >= began:
        return Evidence(Proof.FENCED, f"node {where} has the out-of-service taint")
    if (
        node is not None
        and node.ready
        and entry is not None
        and entry.node_boot
        and node.rebooted_since(entry.node_boot)
        and end is not None
        and now >= end + NODE_SILENCE
    ):
        return Evidence(Proof.FENCED, f"node {where} was rebooted")
    about_to_start = pod is not None and pod.node_name and not (pod.start_time or pod.terminal or pod.gone)
    if settings is None or not settings.replace_unsafe or about_to_start or snapshot.task.spec.lock_key:
        return None
    if end is not None and now >= end:
        return Evidence(
            Proof.WAIVED,
            "not proven: onNodeLost is ReplaceUnsafe, and a running kubelet would have killed it by now",
        )
    return None
