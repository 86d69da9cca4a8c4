"""The schedule log: outcomes are folded into a task's status, each once, by the attempt's number."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncflow.api.asynctask import AsyncTask, AsyncTaskStatus, Attempt, Outcome
from asyncflow.core.backoff import pause_seconds
from asyncflow.core.observed import JobView
from asyncflow.core.outcome import Ending, judge
from asyncflow.core.rules import Rules
from asyncflow.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Folded:
    """The status with all known outcomes in it, and what of the Jobs is still open."""

    status: AsyncTaskStatus
    live: JobView | None = None
    unread: JobView | None = None
    unproven: tuple[JobView, Ending] | None = None


def fold(seen: Snapshot, rules: Rules | None, now: datetime) -> Folded:
    """Fold the outcomes of all ended Jobs into the status, each once, in the order of their attempts."""
    status = seen.task.status
    for job, gone in _attempts_seen(seen):
        if job.attempt < (status.attempt or 0) or _recorded(status, job.attempt):
            continue
        if not (job.finished or gone):
            return Folded(status, live=job)
        ending = judge(job, seen.pods, gone=gone, looked=job.uid in seen.looked)
        if ending is None:
            return Folded(status, unread=job)
        if ending.proof is None:
            return Folded(status, unproven=(job, ending))
        status = _with_ending(seen.task, status, job, ending, rules, now)
    return Folded(status)


def _attempts_seen(seen: Snapshot) -> list[tuple[JobView, bool]]:
    """Return the Jobs by attempt, each with whether it is gone; and the recorded attempts that have none."""
    task = seen.task
    there = {job.attempt for job in seen.jobs}
    recorded = {attempt.number for attempt in task.status.attempts}
    orphans = {
        pod.attempt: Attempt(
            number=pod.attempt, job_name=pod.job_name, job_uid=pod.job_uid, start_time=pod.start_time
        )
        for pod in seen.pods
        if pod.attempt and pod.attempt not in there | recorded
    }
    vanished = [
        (_vanished_job(task, attempt), True)
        for attempt in (*task.status.attempts, *orphans.values())
        if attempt.outcome is None and attempt.number not in there
    ]
    known = [(job, job.uid in seen.gone) for job in seen.jobs]
    return sorted([*known, *vanished], key=lambda pair: pair[0].attempt)


def _vanished_job(task: AsyncTask, attempt: Attempt) -> JobView:
    created = attempt.start_time or task.metadata.creation_timestamp
    assert created is not None, "the API server stamps every object"
    return JobView(
        namespace=task.metadata.namespace,
        name=attempt.job_name,
        uid=attempt.job_uid,
        resource_version="",
        task_uid=task.metadata.uid,
        task_name=task.metadata.name,
        type_name=task.spec.task_type_name,
        attempt=attempt.number,
        run=attempt.run,
        stage=attempt.stage,
        created=created,
    )


def _recorded(status: AsyncTaskStatus, number: int) -> bool:
    return any(attempt.number == number and attempt.outcome is not None for attempt in status.attempts)


def _with_ending(
    task: AsyncTask, status: AsyncTaskStatus, job: JobView, ending: Ending, rules: Rules | None, now: datetime
) -> AsyncTaskStatus:
    """Put an ended attempt into the history, count it, and set the time of the next if there may be one."""
    end_time = ending.end_time or now
    entry = attempt_entry(job).model_copy(
        update={
            "end_time": end_time,
            "node_name": ending.node_name,
            "outcome": ending.outcome,
            "exit_code": ending.exit_code,
            "reason": ending.reason,
            "message": ending.message,
            "proof_of_death": ending.proof,
        }
    )
    counted = {
        Outcome.FAILED: "failures",
        Outcome.UNKNOWN: "failures",
        Outcome.TIMED_OUT: "timeouts",
        Outcome.NOT_STARTED: "timeouts",
        Outcome.DISRUPTED: "disruptions",
    }.get(ending.outcome)
    update: dict[str, object] = {
        "attempt": job.attempt,
        "run": job.run,
        "attempts": with_entry(status, entry, rules),
        "start_time": status.start_time or job.created,
        "lease": None,
        "retry_time": None,
    }
    if counted is not None:
        update[counted] = (getattr(status, counted) or 0) + 1
    status = status.model_copy(update=update)
    if counted is not None and rules is not None:
        retries = (status.failures or 0) + (status.timeouts or 0) + (status.disruptions or 0) - 1
        pause = pause_seconds(rules.backoff, retries, f"{task.metadata.uid}/{job.attempt}")
        status = status.model_copy(update={"retry_time": end_time + timedelta(seconds=pause)})
    return status


def with_entry(status: AsyncTaskStatus, entry: Attempt, rules: Rules | None) -> tuple[Attempt, ...]:
    """Return the history with an attempt in it, as long as the type lets it be."""
    kept = (*(old for old in status.attempts if old.number != entry.number), entry)
    return kept[-(rules.history_limit if rules else 10) :]


def attempt_entry(job: JobView) -> Attempt:
    """Return the line of the history for an attempt under way."""
    return Attempt(
        number=job.attempt,
        run=job.run,
        stage=job.stage,
        job_name=job.name,
        job_uid=job.uid,
        start_time=job.created,
    )
