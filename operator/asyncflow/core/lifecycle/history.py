"""The history of a task's attempts: each outcome is recorded once, by the attempt's number."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTask, AsyncTaskStatus, Attempt, Outcome
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.attempt.settings import AttemptSettings
from asyncflow.core.lifecycle.outcome import Ending, judge
from asyncflow.core.lifecycle.proof_of_death import (
    Evidence,
    is_sealed,
    lease_end,
    node_name_of,
    outside_evidence,
    pod_of,
    recorded,
)
from asyncflow.core.lifecycle.retry import charged_counter, final_outcome, pause
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.pod import PodView

EVIDENCE_AFTER = timedelta(seconds=2)
"""How long the event of a finished Job's pod may come after that of the Job. After that the pod is read, or,
if the Job is complete, its success is recorded without it."""


@dataclass(frozen=True, slots=True)
class Folded:
    """The status with all known outcomes, and the attempt that is not finished."""

    status: AsyncTaskStatus
    live: Execution | None = None
    evidence: Evidence | None = None
    """Proof of death of the live attempt from outside: its Job has still to be closed."""
    needs_pod_read: Execution | None = None
    awaiting_proof: tuple[Execution, Ending] | None = None
    decide_at: datetime | None = None
    """When to decide at the latest: the pod of a completed Job has still to be seen."""
    duplicate_job: bool = False
    """Whether the live Job repeats an attempt that is on record, as a stale operator may create one."""


def fold(snapshot: Snapshot, settings: AttemptSettings | None, now: datetime) -> Folded:
    """Fold the outcomes of all ended Jobs into the status, each once, in the order of their attempts."""
    status = snapshot.task.status
    for observed, gone in _attempts_seen(snapshot):
        job = _with_record(snapshot, observed)
        known = is_recorded(status, job.attempt.number)
        if known and (job.finished or gone or _is_the_recorded(status, job)):
            continue
        evidence, pod = outside_evidence(snapshot, job, settings, now), pod_of(snapshot, job.uid)
        sealed = is_sealed(snapshot, job, pod, now)
        if not (job.finished or gone or (job.closed and evidence is not None and sealed)):
            return Folded(status, live=job, evidence=evidence, duplicate_job=known)
        end = lease_end(snapshot, job)
        if _awaits_terminal_pod(job, pod, now):
            assert job.finish_time is not None
            return Folded(status, decide_at=job.finish_time + EVIDENCE_AFTER)
        ending = judge(
            job,
            pod,
            gone=job.deleted_unfinished if job.finished else gone,
            looked=job.uid in snapshot.pods_listed_at,
            evidence=evidence if sealed else None,
            overdue=end is not None and now >= end,
        )
        if ending is None:
            return Folded(status, needs_pod_read=job)
        if ending.proof is None:
            return Folded(status, awaiting_proof=(job, ending))
        status = _with_ending(snapshot, status, job, ending, settings, now)
    return Folded(status)


def _with_record(snapshot: Snapshot, job: Execution) -> Execution:
    """Return a Job with what the task's status records of its pod: the Job's own counters may be reset."""
    entry = next((a for a in snapshot.task.status.attempts if a.job_uid == job.uid), None)
    if entry is None or not entry.pod_uid:
        return job
    return replace(job, has_pod=True, never_bound=job.never_bound and not entry.node_name)


def _awaits_terminal_pod(job: Execution, pod: PodView | None, now: datetime) -> bool:
    """Return whether the event of a completed Job's pod, which shows an interruption, may still arrive."""
    if not job.complete or (pod is not None and pod.terminal) or job.finish_time is None:
        return False
    return now < job.finish_time + EVIDENCE_AFTER


def _attempts_seen(snapshot: Snapshot) -> list[tuple[Execution, bool]]:
    """Return the Jobs by attempt, each with whether it is gone; and the recorded attempts that have none."""
    task = snapshot.task
    there = {job.attempt.number for job in snapshot.jobs}
    on_record = {attempt.number for attempt in task.status.attempts}
    orphans = {
        pod.attempt: Attempt(
            number=pod.attempt, job_name=pod.job_name, job_uid=pod.job_uid, start_time=pod.start_time
        )
        for pod in snapshot.pods
        if pod.attempt and pod.attempt not in there | on_record
    }
    vanished = [
        (_vanished_job(task, attempt), True)
        for attempt in (*task.status.attempts, *orphans.values())
        if attempt.outcome is None and attempt.number not in there
    ]
    known = [(job, job.uid in snapshot.gone) for job in snapshot.jobs]
    return sorted([*known, *vanished], key=lambda pair: pair[0].attempt.number)


def _vanished_job(task: AsyncTask, attempt: Attempt) -> Execution:
    created = attempt.start_time or task.metadata.creation_timestamp
    assert created is not None, "the API server stamps every object"
    lease = task.status.lease
    if lease is not None and lease.holder != attempt.job_name:
        lease = None
    return Execution(
        lease_token=lease.token if lease else 0,
        lease_acquired=lease.acquire_time if lease else None,
        lease_expires=lease.expire_time if lease else None,
        namespace=task.metadata.namespace,
        name=attempt.job_name,
        uid=attempt.job_uid,
        resource_version="",
        task_uid=task.metadata.uid,
        task_name=task.metadata.name,
        type_name=task.spec.task_type_name,
        attempt=AttemptId(run=attempt.run, stage=attempt.stage, number=attempt.number),
        created=created,
    )


def is_recorded(status: AsyncTaskStatus, number: int) -> bool:
    """Return whether the end of an attempt is on record: with proof of death, or waived."""
    return number < (status.attempt or 0) or any(
        attempt.number == number and attempt.outcome is not None for attempt in status.attempts
    )


def _is_the_recorded(status: AsyncTaskStatus, job: Execution) -> bool:
    """Return whether this is the Job whose end is on record, and not another of the same name."""
    entry = next((a for a in status.attempts if a.number == job.attempt.number), None)
    return job.closed if entry is None else entry.job_uid == job.uid


def _with_ending(
    snapshot: Snapshot,
    status: AsyncTaskStatus,
    job: Execution,
    ending: Ending,
    settings: AttemptSettings | None,
    now: datetime,
) -> AsyncTaskStatus:
    """Record the end of an attempt, charge it to its budget, and set the time of the next one."""
    end_time = ending.end_time or now
    outcome = final_outcome(ending, status, settings)
    entry = attempt_entry(snapshot, job).model_copy(
        update={
            "end_time": end_time,
            "outcome": outcome,
            "exit_code": ending.exit_code,
            "reason": reasons.SNOOZED if outcome is Outcome.SNOOZED else ending.reason,
            "message": ending.message,
            "proof_of_death": ending.proof,
            "proof_detail": ending.proof_detail,
        }
    )
    if ending.node_name:
        entry = entry.model_copy(update={"node_name": ending.node_name})
    counted = charged_counter(outcome, ending.reason)
    if job.attempt.run < (status.run or 1):
        counted = None  # it belongs to an earlier run
    update: dict[str, object] = {
        "attempt": job.attempt.number,
        "run": max(status.run or 1, job.attempt.run),
        "attempts": with_entry(status, entry, settings),
        "start_time": status.start_time or job.created,
        "lease": None,
        "retry_time": None,
    }
    if counted is not None:
        update[counted] = (getattr(status, counted) or 0) + 1
    status = status.model_copy(update=update)
    if counted is not None and settings is not None:
        retry_time = end_time + pause(snapshot.task, status, settings, job.attempt.number, outcome)
        status = status.model_copy(update={"retry_time": retry_time})
    return status


def with_entry(
    status: AsyncTaskStatus, entry: Attempt, settings: AttemptSettings | None
) -> tuple[Attempt, ...]:
    """Return the history with an attempt in it, cut to the type's `retention.historyLimit`."""
    kept = (*(old for old in status.attempts if old.number != entry.number), entry)
    return kept[-(settings.history_limit if settings else 10) :]


def attempt_entry(snapshot: Snapshot, job: Execution) -> Attempt:
    """Return the history entry of a running attempt."""
    pod = pod_of(snapshot, job.uid)
    entry = recorded(snapshot, job)
    where = node_name_of(snapshot, job) or None
    node = snapshot.nodes.get(where) if where else None
    boot = entry.node_boot if entry else None
    if (
        not boot
        and node is not None
        and pod is not None
        and pod.start_time
        and node.read_at >= pod.start_time
    ):
        boot = node.boot
    return Attempt(
        node_name=where,
        node_boot=boot,
        pod_uid=(pod.uid if pod else "") or (entry.pod_uid if entry else ""),
        number=job.attempt.number,
        run=job.attempt.run,
        stage=job.attempt.stage,
        job_name=job.name,
        job_uid=job.uid,
        start_time=job.created,
    )
