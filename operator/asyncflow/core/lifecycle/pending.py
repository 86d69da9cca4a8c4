"""The rules between attempts: whether the run has ended, what blocks the next attempt, and its start."""

from dataclasses import replace
from datetime import datetime

from asyncflow.api import asynctask as api
from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTaskStatus, Attempt, Outcome, Phase, Verdict
from asyncflow.core.attempt.deadlines import due_since, total_end
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.attempt.manifest import MAX_PAYLOAD_BYTES, payload_text
from asyncflow.core.attempt.settings import AttemptSettings
from asyncflow.core.lifecycle import outcome
from asyncflow.core.lifecycle.actions import Decision, StartAttempt
from asyncflow.core.lifecycle.finished import end_run
from asyncflow.core.lifecycle.interventions import decision, ignored_decision, retry_now
from asyncflow.core.lifecycle.retry import RETRIED_NOW, exhausted, last_of_run, takes_token
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.status import decided, with_reason
from asyncflow.core.lifecycle.waiting import blocker_of_start


def decide_pending(
    snapshot: Snapshot,
    status: AsyncTaskStatus,
    settings: AttemptSettings | None,
    now: datetime,
) -> Decision:
    """End the run, or record what blocks the next attempt, or start it."""
    status = with_reason(status, now, api.STUCK, False)
    status = _with_requests(snapshot, status)
    ended = _terminal(snapshot, status, settings, now)
    if ended is not None:
        return end_run(snapshot, status, *ended, now)
    blocker = blocker_of_start(snapshot, status, settings, now)
    end = total_end(snapshot.task, snapshot.task_type)
    if blocker is not None and not blocker.reason:
        return decided(snapshot, status, wake=end)
    may_start = blocker is None or blocker.keeps_place
    if blocker is None and snapshot.blocker is not None and not snapshot.blocker.job_uid:
        blocker = replace(snapshot.blocker, until=None)  # shown until a start succeeds
    if (
        blocker is not None
        and snapshot.blocker is not None
        and blocker.reason == snapshot.task.status.reason == snapshot.blocker.reason
    ):
        # the first message stays: each change of wording would be a write
        blocker = replace(blocker, message=snapshot.task.status.message)
    for condition_type in (api.WAITING, api.DECISION_REQUIRED, api.INVALID):
        here = blocker is not None and blocker.condition == condition_type
        reason, message = (blocker.reason, blocker.message) if blocker is not None and here else ("", "")
        status = with_reason(status, now, condition_type, here, reason, message)
    status = status.model_copy(
        update={
            "phase": Phase.PENDING,
            "reason": blocker.reason if blocker else "",
            "message": blocker.message if blocker else "",
        }
    )
    if blocker is not None and not may_start:
        wake = min((t for t in (blocker.until, end) if t is not None), default=None)
        last = last_of_run(status)
        ignored = ignored_decision(snapshot.task, last.job_uid) if last is not None else ""
        return decided(snapshot, status, wake=wake, ignored=ignored)
    assert settings is not None, "a type without a pod template is not Ready"
    if status.attempts != snapshot.task.status.attempts or status.retry_now != snapshot.task.status.retry_now:
        return decided(snapshot, status)  # on record before the next attempt is made
    start = StartAttempt(
        attempt=AttemptId(run=status.run or 1, stage=0, number=(status.attempt or 0) + 1),
        priority=settings.priority,
        since=due_since(snapshot.task),
        total_left=(end - now).total_seconds() if end else None,
        first=last_of_run(status) is None,
        takes_token=takes_token(last_of_run(status)),
        lock_key=snapshot.task.spec.lock_key,
    )
    status = status.model_copy(update={"retry_time": None})
    return decided(snapshot, status, start=start, wake=end)


def _with_requests(snapshot: Snapshot, status: AsyncTaskStatus) -> AsyncTaskStatus:
    """Record the user's decision about the last attempt, and the request retry-now."""
    last = last_of_run(status)
    asked, decided_by = retry_now(snapshot.task), decision(snapshot.task)
    undecided = last if last is not None and last.decision is None else None
    update: dict[str, object] = {}
    entry: dict[str, object] = {}
    if asked is not None:
        update |= {"retry_now": asked, "retry_time": None}
        if undecided is not None and undecided.outcome in RETRIED_NOW:
            entry = {"decision": Verdict.RETRY, "decision_note": "retry-now"}
    if undecided is not None and decided_by is not None and decided_by.job_uid == undecided.job_uid:
        entry = {"decision": decided_by.verdict, "decision_note": decided_by.note}
        update |= {"retry_time": None}
    if last is not None and entry:
        update |= {"attempts": (*status.attempts[:-1], last.model_copy(update=entry))}
    return status.model_copy(update=update) if update else status


def _terminal(
    snapshot: Snapshot, status: AsyncTaskStatus, settings: AttemptSettings | None, now: datetime
) -> tuple[Phase, str, str] | None:
    """Return phase, reason and message if the run has ended."""
    task, last = snapshot.task, last_of_run(status)
    if last is not None and last.outcome is Outcome.SUCCEEDED:
        return Phase.SUCCEEDED, "", ""
    if last is not None and last.decision is Verdict.SUCCEED:
        return Phase.SUCCEEDED, reasons.SUCCEEDED_BY_DECISION, _by_decision(last)
    if task.spec.cancel:
        return Phase.CANCELLED, reasons.CANCELLED, "spec.cancel was set"
    if last is not None and last.decision is Verdict.FAIL:
        return Phase.FAILED, reasons.FAILED_BY_DECISION, _by_decision(last)
    end = total_end(task, snapshot.task_type)
    if end is not None and now >= end:
        message = f"the task did not end before {end:%Y-%m-%d %H:%M:%S} UTC"
        return Phase.FAILED, outcome.STOP_TOTAL_DEADLINE, message
    if task.spec.payload is not None and status.attempt is None:
        size = len(payload_text(task).encode())
        if size > MAX_PAYLOAD_BYTES:
            message = (
                f"spec.payload has {size} bytes of JSON, at most {MAX_PAYLOAD_BYTES} fit: "
                "keep the data elsewhere and put its address into the payload"
            )
            return Phase.FAILED, reasons.PAYLOAD_TOO_LARGE, message
    if last is None or settings is None or last.decision is Verdict.RETRY:
        return None
    return exhausted(status, settings, last)


def _by_decision(last: Attempt) -> str:
    note = f": {last.decision_note}" if last.decision_note else ""
    return f"decided by a person after attempt {last.number} ({last.outcome}){note}"
