"""What is written into a task's status, and what people are told of it."""

from collections.abc import Sequence
from datetime import datetime

from asyncflow.api import asynctask as api
from asyncflow.api.asynctask import AsyncTaskStatus, Phase
from asyncflow.api.meta import Condition, find_condition, with_condition
from asyncflow.core.actions import Action, Decision, PostEvent, StartAttempt
from asyncflow.core.shards import FIRST
from asyncflow.core.snapshot import Snapshot


def with_reason(
    status: AsyncTaskStatus, now: datetime, kind: str, value: bool, reason: str = "", message: str = ""
) -> AsyncTaskStatus:
    """Set a condition; one that never was True is not written as False."""
    old = find_condition(status.conditions, kind)
    if not value and old is None:
        return status
    condition = Condition(
        type=kind,
        status="True" if value else "False",
        reason=reason or (kind if value else "Resolved"),
        message=message,
    )
    return status.model_copy(update={"conditions": with_condition(status.conditions, condition, now)})


def decided(
    seen: Snapshot,
    status: AsyncTaskStatus,
    *,
    start: StartAttempt | None = None,
    actions: Sequence[Action] = (),
    wake: datetime | None = None,
    live: bool = False,
) -> Decision:
    """Return a decision that writes the status if it differs from the one there, and says so to people."""
    old = seen.task.status
    if status == old:
        return Decision(start=start, actions=tuple(actions), wake=wake, live=live)
    update: dict[str, object] = {"observed_generation": seen.task.metadata.generation}
    if status.shard is None and seen.kind is not None:
        update["shard"] = (seen.kind.status.shards or FIRST).end
    new = status.model_copy(update=update)
    return Decision(status=new, start=start, actions=(*actions, *_events(old, new)), wake=wake, live=live)


QUIET = frozenset({"", "BackOff", "Snoozed", "NotBefore", "Suspended", "TaskTypeSuspended", "LockHeld"})
"""Reasons to wait that are as they should be: no event tells of them."""

TOLD = (api.WAITING, api.STUCK, api.DECISION_REQUIRED, api.INVALID)
"""Conditions that people want to hear of when they become True."""


def _events(old: AsyncTaskStatus, new: AsyncTaskStatus) -> list[Action]:
    """Tell people what they would want to know: a failure, a hindrance, a stuck attempt. Not a success."""
    made: list[Action] = []
    if new.phase is not old.phase and new.phase is Phase.FAILED:
        made.append(PostEvent(new.reason, new.message))
    if new.phase is not old.phase and new.phase is Phase.CANCELLED:
        made.append(PostEvent(new.reason, new.message, warning=False))
    for kind in TOLD:
        before, after = find_condition(old.conditions, kind), find_condition(new.conditions, kind)
        if after is None or after.status != "True" or after.reason in QUIET:
            continue
        if before is None or before.status != "True" or before.reason != after.reason:
            made.append(PostEvent(after.reason, after.message))
    known = {a.number for a in old.attempts if a.outcome is not None}
    for attempt in new.attempts:
        if attempt.outcome is not None and attempt.number not in known and attempt.proof_detail:
            waived = attempt.proof_of_death is api.Proof.WAIVED
            reason = "ReplacedUnsafe" if waived else "Fenced"
            made.append(
                PostEvent(reason, f"attempt {attempt.number}: {attempt.proof_detail}", warning=waived)
            )
    return made
