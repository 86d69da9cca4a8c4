"""Writing a task's status: conditions, and the events for its changes."""

from collections.abc import Sequence
from datetime import datetime

from asyncflow.api import asynctask as api
from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTaskStatus, Phase
from asyncflow.api.meta import Condition, find_condition, with_condition
from asyncflow.core.lifecycle.actions import Action, Decision, PostEvent, StartAttempt
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.tasktype.shards import FIRST


def with_reason(
    status: AsyncTaskStatus,
    now: datetime,
    condition_type: str,
    value: bool,
    reason: str = "",
    message: str = "",
) -> AsyncTaskStatus:
    """Set a condition; one that was never True is not written as False."""
    old = find_condition(status.conditions, condition_type)
    if not value and old is None:
        return status
    condition = Condition(
        type=condition_type,
        status="True" if value else "False",
        reason=reason or (condition_type if value else reasons.RESOLVED),
        message=message,
    )
    return status.model_copy(update={"conditions": with_condition(status.conditions, condition, now)})


def decided(
    snapshot: Snapshot,
    status: AsyncTaskStatus,
    *,
    start: StartAttempt | None = None,
    actions: Sequence[Action] = (),
    wake: datetime | None = None,
    live: bool = False,
    ignored: str = "",
) -> Decision:
    """Return a decision that writes the status if it has changed, with the events for the change.

    Args:
        snapshot: what is known of the task.
        status: its status after the decision.
        start: the attempt to start.
        actions: what else to do.
        wake: when to decide again.
        live: whether the task holds a slot.
        ignored: why an annotation on the task has no effect, as the new message has it, too.
    """
    old = snapshot.task.status
    if status == old:
        return Decision(start=start, actions=tuple(actions), wake=wake, live=live)
    update: dict[str, object] = {"observed_generation": snapshot.task.metadata.generation}
    if status.shard is None and snapshot.task_type is not None:
        update["shard"] = (snapshot.task_type.status.shards or FIRST).end
    new = status.model_copy(update=update)
    events = _events(old, new)
    rejected = new.rejected_confirmation != old.rejected_confirmation
    if ignored and (rejected or new.message != old.message):
        events.append(PostEvent(reasons.ANNOTATION_IGNORED, ignored))
    return Decision(status=new, start=start, actions=(*actions, *events), wake=wake, live=live)


EXPECTED = frozenset(
    {
        "",
        reasons.BACK_OFF,
        reasons.SNOOZED,
        reasons.NOT_BEFORE,
        reasons.SUSPENDED,
        reasons.TASK_TYPE_SUSPENDED,
        reasons.LOCK_HELD,
    }
)
"""Reasons to wait that are part of normal operation: no event is posted."""

EVENT_CONDITIONS = (api.WAITING, api.STUCK, api.DECISION_REQUIRED, api.INVALID)
"""Conditions for which an event is posted when they become True."""


def _events(old: AsyncTaskStatus, new: AsyncTaskStatus) -> list[Action]:
    """Return the events for a change: a failure, a blocker, a stuck attempt, a fenced one; not a success."""
    events: list[Action] = []
    if new.phase is not old.phase and new.phase is Phase.FAILED:
        events.append(PostEvent(new.reason, new.message))
    if new.phase is not old.phase and new.phase is Phase.CANCELLED:
        events.append(PostEvent(new.reason, new.message, warning=False))
    for condition_type in EVENT_CONDITIONS:
        before, after = (
            find_condition(old.conditions, condition_type),
            find_condition(new.conditions, condition_type),
        )
        if after is None or after.status != "True" or after.reason in EXPECTED:
            continue
        if before is None or before.status != "True" or before.reason != after.reason:
            events.append(PostEvent(after.reason, after.message))
    known = {a.number for a in old.attempts if a.outcome is not None}
    for attempt in new.attempts:
        if attempt.outcome is not None and attempt.number not in known and attempt.proof_detail:
            waived = attempt.proof_of_death is api.Proof.WAIVED
            reason = reasons.REPLACED_UNSAFE if waived else reasons.FENCED
            events.append(
                PostEvent(reason, f"attempt {attempt.number}: {attempt.proof_detail}", warning=waived)
            )
    return events
