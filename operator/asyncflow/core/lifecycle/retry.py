"""Retries: which budget an attempt is charged to, when it is exhausted, and the pause before the next one.

Every task has a budget for failures, one for timeouts and one for disruptions; snoozes have a counter.
The budget that all tasks of a type share is `asyncflow.core.tasktype.retry_budget`.
"""

from datetime import timedelta

from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTask, AsyncTaskStatus, Attempt, Outcome, Phase
from asyncflow.core.attempt.backoff import pause_seconds
from asyncflow.core.attempt.settings import AttemptSettings
from asyncflow.core.lifecycle.outcome import Ending

COUNTERS = {
    Outcome.FAILED: "failures",
    Outcome.UNKNOWN: "failures",
    Outcome.TIMED_OUT: "timeouts",
    Outcome.NOT_STARTED: "timeouts",
    Outcome.DISRUPTED: "disruptions",
    Outcome.SNOOZED: "snoozes",
}
"""The counter that an outcome is charged to; a success and a cancellation are not charged."""

RETRIED_NOW = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.NOT_STARTED, Outcome.SNOOZED)
"""After these outcomes retry-now counts as the decision to retry; after others the type may require one."""

CHARGED = frozenset(COUNTERS) - {Outcome.DISRUPTED, Outcome.SNOOZED}
"""After these outcomes the next attempt takes a token of the type's retry budget."""


def charged_counter(outcome: Outcome, reason: str) -> str | None:
    """Return the counter of the status that an attempt is charged to; None if it is charged to none.

    An unknown outcome after an expired lease is charged as a timeout; a pod that its kubelet rejected, as a
    disruption: no deadline ended it.
    """
    if outcome is Outcome.NOT_STARTED and reason != reasons.NOT_STARTED:
        return "disruptions"
    if outcome is Outcome.UNKNOWN and reason == reasons.LEASE_EXPIRED:
        return "timeouts"
    return COUNTERS.get(outcome)


def final_outcome(ending: Ending, status: AsyncTaskStatus, settings: AttemptSettings | None) -> Outcome:
    """Return the outcome of an attempt: a failure with a snooze exit code is a snooze, up to `maxTimes`."""
    if ending.outcome is not Outcome.FAILED or settings is None:
        return ending.outcome
    snoozes = status.snoozes or 0
    snoozed = ending.exit_code in settings.snooze.exit_codes and snoozes < settings.snooze.max_times
    return Outcome.SNOOZED if snoozed else ending.outcome


def pause(
    task: AsyncTask, status: AsyncTaskStatus, settings: AttemptSettings, attempt: int, outcome: Outcome
) -> timedelta:
    """Return the pause after an attempt that was charged already: that of the snooze, or the backoff."""
    if outcome is Outcome.SNOOZED:
        return timedelta(seconds=settings.snooze.delay_seconds)
    retries = (status.failures or 0) + (status.timeouts or 0) + (status.disruptions or 0) - 1
    return timedelta(seconds=pause_seconds(settings.backoff, retries, f"{task.metadata.uid}/{attempt}"))


def last_of_run(status: AsyncTaskStatus) -> Attempt | None:
    """Return the last attempt of this run."""
    last = status.attempts[-1] if status.attempts else None
    return last if last is not None and last.run == (status.run or 1) else None


def takes_token(last: Attempt | None) -> bool:
    """Return whether the next attempt takes a token of the type's budget: a retry that no user requested."""
    return last is not None and last.outcome in CHARGED and last.decision is None


def policy_after(last: Attempt, settings: AttemptSettings) -> str:
    """Return the type's policy after an attempt: Retry, Fail or Hold."""
    if last.outcome is Outcome.DISRUPTED:
        return settings.on_disruption
    if last.outcome is Outcome.UNKNOWN:
        return settings.on_unknown_outcome
    return "Retry"


def exhausted(
    status: AsyncTaskStatus, settings: AttemptSettings, last: Attempt
) -> tuple[Phase, str, str] | None:
    """Return phase, reason and message if the task may not be retried any more."""
    code = f", exit code {last.exit_code}" if last.exit_code else ""
    what = f"attempt {last.number}: {last.reason}{code}"
    if last.outcome is Outcome.FAILED and last.exit_code in settings.non_retriable_exit_codes:
        return Phase.FAILED, reasons.NON_RETRIABLE_EXIT_CODE, what
    policy = policy_after(last, settings)
    if policy == "Hold":
        return None
    if policy == "Fail":
        disrupted = last.outcome is Outcome.DISRUPTED
        return Phase.FAILED, reasons.DISRUPTED if disrupted else reasons.OUTCOME_UNKNOWN, what
    if (status.failures or 0) > settings.max_retries:
        return Phase.FAILED, reasons.MAX_RETRIES_EXCEEDED, f"{status.failures} attempts failed; {what}"
    if (status.timeouts or 0) > settings.max_timeouts:
        return Phase.FAILED, reasons.MAX_TIMEOUTS_EXCEEDED, f"{status.timeouts} attempts timed out; {what}"
    if (status.disruptions or 0) > settings.max_disruptions:
        return (
            Phase.FAILED,
            reasons.MAX_DISRUPTIONS_EXCEEDED,
            f"{status.disruptions} attempts were disrupted; {what}",
        )
    return None
