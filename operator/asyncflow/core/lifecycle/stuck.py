"""When an attempt is stuck: its end is overdue, or there is no proof of death."""

from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTaskStatus
from asyncflow.core.lifecycle.actions import Action, Decision, ReadPods
from asyncflow.core.lifecycle.blocker import Blocker
from asyncflow.core.lifecycle.history import EVIDENCE_AFTER
from asyncflow.core.lifecycle.interventions import how_to_confirm, ignored_confirmation
from asyncflow.core.lifecycle.outcome import Ending
from asyncflow.core.lifecycle.proof_of_death import (
    early_confirmation,
    kubelet_reports,
    lease_end,
    named_by,
    node_name_of,
    pod_of,
)
from asyncflow.core.lifecycle.record import running_since, running_status
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.status import decided
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.pod import PodView

READ_PODS_AFTER = timedelta(seconds=3)
READ_PODS_AT_LEAST_EVERY = timedelta(seconds=60)
"""How often the pods of an attempt without proof of death are read: at first, and in the long run."""

OVERDUE_AFTER = timedelta(seconds=60)
"""How late the Job controller may enforce a Job's deadline before the task is stuck."""


EARLY_CONFIRMATION = (
    "The confirmation of the attempt's death has no effect: its node is Ready and reports the end itself."
)


def read_evidence(job: Execution, now: datetime) -> Decision:
    """Read the failed pod if its event does not arrive in time."""
    due = (job.finish_time or job.created) + EVIDENCE_AFTER
    if now < due:
        return Decision(live=True, wake=due)
    return Decision(actions=(ReadPods(job.name, job.uid),), live=True)


def stuck_without_proof(
    snapshot: Snapshot, status: AsyncTaskStatus, job: Execution, ending: Ending, now: datetime
) -> Decision:
    """Keep a task waiting whose attempt ended according to the API and whose node has not confirmed it."""
    message = (
        f"attempt {job.attempt.number} ended ({ending.reason}) without proof that its processes are "
        f"dead; {_remedy(snapshot, job, now)}"
    )
    end = lease_end(snapshot, job)
    wakes = [end] if end is not None and now < end else []
    actions: list[Action] = []
    due = next_pod_read(snapshot, job, now)
    if now >= due:
        actions.append(ReadPods(job.name, job.uid))
    else:
        wakes.append(due)
    status = running_status(snapshot, status, job, now, reasons.NO_PROOF_OF_DEATH, message, stuck=True)
    ignored = why_ignored(snapshot, job, now)
    return decided(
        snapshot, status, actions=actions, live=True, wake=min(wakes, default=None), ignored=ignored
    )


def why_ignored(snapshot: Snapshot, job: Execution, now: datetime) -> str:
    """Return why the confirmation on the task has no effect on an attempt; else ""."""
    if early_confirmation(snapshot, job, now):
        return EARLY_CONFIRMATION
    return ignored_confirmation(snapshot.task, named_by(snapshot, job))


def next_pod_read(snapshot: Snapshot, job: Execution, now: datetime) -> datetime:
    """Return when to read the pods of an attempt again; the interval grows with the attempt's age."""
    listed = snapshot.pods_listed_at.get(job.uid)
    if listed is None:
        return now
    age = now - (job.finish_time or job.created)
    return listed + min(READ_PODS_AT_LEAST_EVERY, max(READ_PODS_AFTER, age / 20))


def reason_to_be_stuck(snapshot: Snapshot, job: Execution, now: datetime) -> tuple[str, str, datetime | None]:
    """Return why the end of an attempt is overdue and the message; else "" and when to decide again."""
    end, pod = lease_end(snapshot, job), pod_of(snapshot, job.uid)
    if end is not None and now >= end and (job.has_pod or pod is not None):
        if is_preparing(snapshot, pod, now):
            return "", "", None
        return (
            reasons.LEASE_EXPIRED,
            f"the lease of attempt {job.attempt.number} has expired and its node has not reported its end; "
            f"{_remedy(snapshot, job, now)}",
            None,
        )
    overdue = None
    if job.deadline_seconds and not job.suspended:
        overdue = running_since(job) + timedelta(seconds=job.deadline_seconds) + OVERDUE_AFTER
        if now >= overdue and not job.ending:
            return (
                reasons.JOB_OVERDUE,
                f"Job {job.name} is past its deadline: check that kube-controller-manager is running",
                end if end is not None and now < end else None,
            )
    return "", "", min((t for t in (end, overdue) if t is not None and t > now), default=None)


def is_preparing(snapshot: Snapshot, pod: PodView | None, now: datetime) -> bool:
    """Return whether the kubelet of a pod has not started a container yet, and reports what happens."""
    return pod is not None and bool(pod.preparing) and kubelet_reports(snapshot, pod, now)


def preparing_blocker(
    snapshot: Snapshot, job: Execution, pod: PodView | None, now: datetime
) -> Blocker | None:
    """Return what blocks the end of an attempt whose lease has expired before its node started a container.

    The kubelet looks at the deadline of a pod only between two synchronizations: an image pull or a mount is
    not interrupted.
    """
    end = lease_end(snapshot, job)
    if pod is None or end is None or now < end or not is_preparing(snapshot, pod, now):
        return None
    message = (
        f"node {pod.node_name} is still {pod.preparing}, past the deadline of attempt {job.attempt.number}; "
        "the attempt ends by itself afterwards"
    )
    return Blocker(reasons.CONTAINER_CREATING, message, job_uid=job.uid)


def _remedy(snapshot: Snapshot, job: Execution, now: datetime) -> str:
    """Return what proves the death of an attempt, and what an administrator can do."""
    pod = pod_of(snapshot, job.uid)
    if pod is not None and kubelet_reports(snapshot, pod, now):
        return (
            f"as long as node {pod.node_name} is not lost, it reports the end itself, and a confirmation is "
            "neither needed nor counted. If that takes too long, check the kubelet and the container runtime "
            "of the node"
        )
    uid, check = named_by(snapshot, job), ""
    ignored = ignored_confirmation(snapshot.task, uid)
    node = snapshot.nodes.get(node_name_of(snapshot, job))
    if node is not None and node.ready:
        check = (
            f"Node {node.name} is Ready, and its pod {uid} was deleted by force: check on the node that no "
            "container of this pod runs or is created, and that no image is pulled for it. "
        )
    return (
        "no other attempt starts before there is proof: the return or the fencing of its node, or your "
        f"confirmation. {check}{how_to_confirm(snapshot.task, uid)} {ignored}".rstrip()
    )
