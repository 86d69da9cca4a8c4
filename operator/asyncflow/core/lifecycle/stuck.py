"""When an attempt is stuck: its end is overdue, or there is no proof of death."""

from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTaskStatus
from asyncflow.core.lifecycle.actions import Action, Decision, ReadPods
from asyncflow.core.lifecycle.interventions import how_to_confirm
from asyncflow.core.lifecycle.outcome import Ending
from asyncflow.core.lifecycle.proof_of_death import lease_end, named_by, pod_of
from asyncflow.core.lifecycle.record import running_since, running_status
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.status import decided
from asyncflow.core.views.execution import Execution

EVIDENCE_AFTER = timedelta(seconds=2)
"""How long the event of a failed Job's pod may come after that of the Job before the pod is read."""

READ_PODS_AFTER = timedelta(seconds=3)
READ_PODS_AT_LEAST_EVERY = timedelta(seconds=60)
"""How often the pods of an attempt without proof of death are read: at first, and in the long run."""

OVERDUE_AFTER = timedelta(seconds=60)
"""How late the Job controller may enforce a Job's deadline before the task is stuck."""


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
        "dead; no other attempt starts before there is one: the return or the fencing of its node, or your "
        "confirmation: "
        f"{how_to_confirm(snapshot.task, named_by(snapshot, job))}"
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
    return decided(snapshot, status, actions=actions, live=True, wake=min(wakes, default=None))


def next_pod_read(snapshot: Snapshot, job: Execution, now: datetime) -> datetime:
    """Return when to read the pods of an attempt again; the interval grows with the attempt's age."""
    listed = snapshot.pods_listed_at.get(job.uid)
    if listed is None:
        return now
    age = now - (job.finish_time or job.created)
    return listed + min(READ_PODS_AT_LEAST_EVERY, max(READ_PODS_AFTER, age / 20))


def reason_to_be_stuck(snapshot: Snapshot, job: Execution, now: datetime) -> tuple[str, str, datetime | None]:
    """Return why the end of an attempt is overdue and the message; else "" and when to decide again."""
    end = lease_end(snapshot, job)
    if end is not None and now >= end and (job.has_pod or pod_of(snapshot, job.uid) is not None):
        return (
            reasons.LEASE_EXPIRED,
            f"the lease of attempt {job.attempt.number} has expired and its node has not reported its end; "
            "no other attempt starts before there is proof: the return or the fencing of its node, or your "
            "confirmation: "
            f"{how_to_confirm(snapshot.task, named_by(snapshot, job))}",
            None,
        )
    overdue = None
    if job.deadline_seconds:
        overdue = running_since(job) + timedelta(seconds=job.deadline_seconds) + OVERDUE_AFTER
        if now >= overdue and not job.ending:
            return (
                reasons.JOB_OVERDUE,
                f"Job {job.name} is past its deadline: check that kube-controller-manager is running",
                end if end is not None and now < end else None,
            )
    return "", "", min((t for t in (end, overdue) if t is not None and t > now), default=None)
