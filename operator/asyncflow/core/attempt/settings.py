"""The effective settings of a task: those of its TaskType, overridden by its own."""

from dataclasses import dataclass

from asyncflow.api.asynctask import AsyncTask
from asyncflow.api.limits import Backoff, Snooze
from asyncflow.api.tasktype import TaskType
from asyncflow.api.template import JobMeta, PodTemplate


@dataclass(frozen=True, slots=True)
class AttemptSettings:
    """The effective settings for the attempts of one task. All times are in seconds."""

    template: PodTemplate
    job_metadata: JobMeta
    attempt_seconds: int
    pending_seconds: int
    total_seconds: int | None
    grace_seconds: int
    margin_seconds: int
    max_retries: int
    max_timeouts: int
    max_disruptions: int
    backoff: Backoff
    non_retriable_exit_codes: frozenset[int]
    snooze: Snooze
    on_disruption: str
    on_unknown_outcome: str
    replace_unsafe: bool
    """Whether an attempt without proof of death is replaced once a live kubelet would have killed it."""
    priority: int
    history_limit: int


def effective_settings(task: AsyncTask, task_type: TaskType) -> AttemptSettings | None:
    """Return the effective settings of a task; None if its type has no single pod template."""
    spec, own = task_type.spec, task.spec
    if spec.template is None:
        return None
    total = own.deadlines.total_seconds or spec.deadlines.total_seconds
    return AttemptSettings(
        template=spec.template,
        job_metadata=spec.job_metadata,
        attempt_seconds=own.deadlines.attempt_seconds or spec.deadlines.attempt_seconds,
        pending_seconds=own.deadlines.pending_seconds or spec.deadlines.pending_seconds,
        total_seconds=total,
        grace_seconds=spec.template.spec.grace_seconds,
        margin_seconds=spec.lease.margin_seconds,
        max_retries=_own_or_default(own.retry.max_retries, spec.retry.max_retries),
        max_timeouts=_own_or_default(own.retry.max_timeouts, spec.retry.max_timeouts),
        max_disruptions=spec.retry.max_disruptions,
        backoff=spec.retry.backoff,
        non_retriable_exit_codes=frozenset(spec.retry.non_retriable_exit_codes),
        snooze=spec.retry.snooze,
        on_disruption=spec.retry.on_disruption,
        on_unknown_outcome=spec.retry.on_unknown_outcome,
        replace_unsafe=spec.on_node_lost == "ReplaceUnsafe",
        priority=_own_or_default(own.priority, spec.priority),
        history_limit=spec.retention.history_limit,
    )


def _own_or_default(own: int | None, default: int) -> int:
    return default if own is None else own
