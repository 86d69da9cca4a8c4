"""What to do for a TaskType now: dry run, error policy, retry budget, counts, shards, retention.

`decide_type` is pure: it may be called again after any crash and returns the same. The status is written
before anything else is done: tokens are used only after their withdrawal is on record.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.api.meta import is_true
from asyncflow.api.tasktype import READY, TaskType, TaskTypeStatus
from asyncflow.core.tasktype import error_policy
from asyncflow.core.tasktype.census import Tally
from asyncflow.core.tasktype.counts import with_counts
from asyncflow.core.tasktype.readiness import needs_dry_run, with_dry_run_result
from asyncflow.core.tasktype.retention import first_to_delete
from asyncflow.core.tasktype.retry_budget import withdraw
from asyncflow.core.tasktype.shards import FIRST, roll, split
from asyncflow.core.tasktype.snapshot import DryRunResult, Due, FinishedTask, TypeSnapshot

DRY_RUN_RETRY_AFTER = timedelta(seconds=30)
"""When the dry run of a rejected type is repeated: the cause may disappear without a change of the type."""


@dataclass(frozen=True, slots=True)
class TypeEvent:
    """A Kubernetes event on the TaskType."""

    reason: str
    message: str
    warning: bool = True
    occasion: str = ""
    """Distinguishes two events with the same text."""


@dataclass(frozen=True, slots=True)
class TypeDecision:
    """Everything to do for a TaskType now."""

    needs_dry_run: bool = False
    """Run the type's Job as a dry run and decide again with the result; nothing else is set."""
    status: TaskTypeStatus | None = None
    """The status to write, if it differs from the one there."""
    tokens: int = 0
    """Retry tokens to hand out once the status is written."""
    suspension: str = ""
    """Why the type has suspended itself; holds from now on until it is resumed."""
    events: tuple[TypeEvent, ...] = ()
    """Events to post once the status is written."""
    delete: tuple[FinishedTask, ...] = ()
    wake: datetime | None = None
    """When to decide again if nothing happens before."""


def decide_type(snapshot: TypeSnapshot, now: datetime, *, deletions: int = 100) -> TypeDecision:
    """Return what to do for a TaskType now.

    Args:
        snapshot: what is known of the type and its tasks.
        now: the moment, with its time zone.
        deletions: how many tasks to delete at most.
    """
    task_type, result, demand = snapshot.task_type, snapshot.dry_run_result, snapshot.demand
    if task_type.metadata.deletion_timestamp is not None:
        return TypeDecision()
    status, wakes = task_type.status, list[datetime]()
    if result is not None:
        status = with_dry_run_result(task_type, result, now)
    elif needs_dry_run(task_type) and now >= _next_dry_run(snapshot, now):
        return TypeDecision(needs_dry_run=True)
    if not is_true(status.conditions, READY):
        wakes.append((snapshot.last_dry_run or now) + DRY_RUN_RETRY_AFTER)
    status = status.model_copy(update={"shards": status.shards or FIRST})
    failures = error_policy.failures_that_count(task_type, snapshot.tally.failures)
    status = error_policy.evaluate(task_type, status, failures, now)
    withdrawal = withdraw(
        task_type, status, waiting=demand.tokens, first_attempts=demand.first_attempts, now=now
    )
    if withdrawal.next_token is not None:
        wakes.append(withdrawal.next_token)
    status = _with_governed(snapshot, withdrawal.status, replace(snapshot.tally, failures=failures), now)
    changed = status != task_type.status
    return TypeDecision(
        status=status if changed else None,
        tokens=withdrawal.taken,
        suspension=status.errors.suspended,
        events=_events(task_type, status, result) if changed else (),
        delete=first_to_delete(snapshot.finished or {}, deletions),
        wake=min(wakes, default=None),
    )


def _next_dry_run(snapshot: TypeSnapshot, now: datetime) -> datetime:
    """Return when the next dry run is due: at once for a new generation, else after a pause."""
    task_type, last = snapshot.task_type, snapshot.last_dry_run
    if last is None or task_type.status.observed_generation != task_type.metadata.generation:
        return now
    return last + DRY_RUN_RETRY_AFTER


def _with_governed(
    snapshot: TypeSnapshot, status: TaskTypeStatus, tally: Tally, now: datetime
) -> TaskTypeStatus:
    """Return the status after what the governors have requested."""
    shards = status.shards or FIRST
    if Due.SPLIT in snapshot.due:
        shards = split(shards, tally, snapshot.task_type.spec.max_tasks_per_shard)
    if Due.ROLL in snapshot.due:
        shards = roll(shards, tally)
        status = with_counts(status, tally, snapshot.demand, now)
    return status.model_copy(update={"shards": shards})


def _events(
    task_type: TaskType, status: TaskTypeStatus, result: DryRunResult | None
) -> tuple[TypeEvent, ...]:
    """Return the events for a change of a TaskType's status."""
    before, after, events = task_type.status.errors, status.errors, list[TypeEvent]()
    occasion = str(after.resume_time)
    if result is not None and result.reason:
        events.append(TypeEvent(result.reason, result.message))
    if after.suspended and not before.suspended:
        events.append(TypeEvent(reasons.ERROR_POLICY, after.suspended, occasion=occasion))
    if before.suspended and not after.suspended:
        message = f"resumed with the annotation {after.resumed!r}"
        events.append(TypeEvent(reasons.RESUMED, message, warning=False, occasion=occasion))
    return tuple(events)
