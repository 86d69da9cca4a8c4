"""The resource AsyncTask: one asynchronous task."""

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field

from asyncflow.api.limits import NOT_IMPLEMENTED, Priority, TaskDeadlines, TaskRetry
from asyncflow.api.meta import ApiModel, Conditions, ObjectMeta, StatusModel, Time
from asyncflow.api.template import PRESERVE, rule, rules


class Phase(StrEnum):
    """The phase of a task: a summary of its conditions."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the run has finished."""
        return self not in (Phase.PENDING, Phase.RUNNING)


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    NOT_STARTED = "NotStarted"
    SNOOZED = "Snoozed"
    DISRUPTED = "Disrupted"
    CANCELLED = "Cancelled"
    UNKNOWN = "Unknown"


class Proof(StrEnum):
    """What proves that the processes of an attempt are dead; ``Waived`` if nothing does."""

    NODE = "Node"
    NEVER_STARTED = "NeverStarted"
    FENCED = "Fenced"
    WAIVED = "Waived"


class Verdict(StrEnum):
    """What a user decided after an attempt."""

    RETRY = "Retry"
    FAIL = "Fail"
    SUCCEED = "Succeed"


COMPLETE = "Complete"
FAILED = "Failed"
CANCELLED = "Cancelled"
WAITING = "Waiting"
STUCK = "Stuck"
DECISION_REQUIRED = "DecisionRequired"
INVALID = "Invalid"

TIMESTAMP_PATTERN = (
    r"^2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
)
"""Timestamps that Python and Go parse alike: a subset of RFC 3339."""

IMMUTABLE = "is immutable: create another AsyncTask instead"


class AsyncTaskSpec(ApiModel):
    """The desired state of a task: its input, and the settings that override those of its TaskType."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.taskTypeName == oldSelf.taskTypeName", f"taskTypeName {IMMUTABLE}"),
            rule("has(self.payload) == has(oldSelf.payload)", f"payload {IMMUTABLE}"),
            rule(
                "has(self.lockKey) == has(oldSelf.lockKey) && (!has(self.lockKey) || "
                "self.lockKey == oldSelf.lockKey)",
                f"lockKey {IMMUTABLE}",
            ),
            rule(
                "has(self.idempotencyKey) == has(oldSelf.idempotencyKey) && (!has(self.idempotencyKey) || "
                "self.idempotencyKey == oldSelf.idempotencyKey)",
                f"idempotencyKey {IMMUTABLE}",
            ),
            rule(
                "!has(oldSelf.cancel) || !oldSelf.cancel || (has(self.cancel) && self.cancel)",
                "cancel cannot be unset: create another AsyncTask instead",
            ),
        )
    )

    task_type_name: str = Field(
        description="Name of the TaskType, in the same namespace, that defines how the task runs. Immutable. "
        "A task without a TaskType waits (reason UnknownTaskType).",
        min_length=1,
        max_length=63,
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    )
    payload: dict[str, Any] | None = Field(
        default=None,
        description="Input of the task, a JSON object. Each container gets it as compact JSON in the "
        "environment variable ASYNCFLOW_PAYLOAD ({} if unset). Immutable. At most 32 KiB of compact JSON; a "
        "task with a larger payload fails (PayloadTooLarge). Pass integers beyond 64 bits as strings.",
        json_schema_extra=PRESERVE,
    )
    priority: Priority | None = Field(
        default=None,
        description="Priority of the task among those of its TaskType: the highest starts first. Defaults to "
        "the priority of the TaskType.",
    )
    not_before: Time | None = Field(
        default=None,
        description="Earliest start of an attempt, an RFC 3339 timestamp such as 2026-01-31T08:00:00Z. "
        "deadlines.totalSeconds counts from it if it is later than the creation. Unset: no restriction.",
        json_schema_extra={"pattern": TIMESTAMP_PATTERN},
    )
    lock_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Mutual exclusion: no two tasks of a namespace with the same lockKey run at the same "
        "time. The fencing token (ASYNCFLOW_FENCING_TOKEN) then increases from holder to holder of the key. "
        "Immutable. Not with a TaskType that has onNodeLost: ReplaceUnsafe. Unset: no lock.",
    )
    idempotency_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Value of the environment variable ASYNCFLOW_IDEMPOTENCY_KEY, the same in every attempt: "
        "a called service recognizes repeated requests by it. Immutable. Defaults to the uid of the task.",
    )
    deadlines: TaskDeadlines = Field(
        default_factory=TaskDeadlines, description="Deadlines that override those of the TaskType."
    )
    retry: TaskRetry = Field(
        default_factory=TaskRetry, description="Retry limits that override those of the TaskType."
    )
    suspend: bool = Field(
        default=False,
        description="Start no more attempts of this task. A running attempt is not stopped. Defaults to "
        "false.",
    )
    cancel: bool = Field(
        default=False,
        description="Cancel the task: stop a running attempt, start no other. Cannot be unset. Defaults to "
        "false.",
    )


class TaskLease(ApiModel):
    """The lease of a running attempt: an alarm for attempts that should have ended, not a proof of death."""

    holder: str = Field(description="Name of the Job of the attempt that holds the lease.")
    token: int = Field(
        description="Fencing token of the attempt. Increases with every attempt of the task or, with a "
        "lockKey, with every holder of the key."
    )
    acquire_time: Time = Field(description="When the lease was acquired.")
    expire_time: Time = Field(
        description="When the lease expires. An attempt that has not ended by then makes the task Stuck. "
        "Expiry is no proof that its processes are dead."
    )


class Attempt(ApiModel):
    """An entry of the schedule log."""

    number: int = Field(
        ge=1, description="Number of the attempt, counted from 1 across all runs and stages of the task."
    )
    run: int = Field(default=1, ge=1, description="Number of the run that the attempt belongs to.")
    stage: int = Field(default=0, ge=0, description="Index of the stage, from 0.")
    job_name: str = Field(description="Name of the Job of the attempt.")
    job_uid: str = Field(default="", description="uid of the Job of the attempt.")
    pod_uid: str = Field(default="", description="uid of the pod of the attempt, if known.", max_length=64)
    node_name: str | None = Field(
        default=None, description="Name of the node on which the attempt ran, if known."
    )
    node_boot: str | None = Field(
        default=None,
        max_length=256,
        description="Machine and boot of the node while the attempt ran (systemUUID/bootID), if known. "
        "Another boot of the same machine is evidence that the processes of the attempt are dead.",
    )
    start_time: Time | None = Field(default=None, description="When the Job of the attempt was created.")
    end_time: Time | None = Field(
        default=None,
        description="When the attempt ended, as reported by the kubelet or the Job controller; if neither "
        "did, when the operator recorded the end.",
    )
    outcome: Outcome | None = Field(
        default=None,
        description="How the attempt ended: Succeeded, Failed, TimedOut (it exceeded a deadline), NotStarted "
        "(its pod never started), Snoozed, Disrupted (by a drain, preemption or eviction), Cancelled, or "
        "Unknown (nothing reported how). Unset while the attempt runs.",
    )
    exit_code: int | None = Field(
        default=None,
        description="Exit code of the first container that exited with other than 0, else 0. Unset if "
        "unknown, or if the Job succeeded.",
    )
    reason: str = Field(
        default="", description="Reason for the end of the attempt, in CamelCase.", max_length=128
    )
    message: str = Field(
        default="",
        description="Human-readable details about the end of the attempt, at most 1024 characters.",
        max_length=1024,
    )
    proof_of_death: Proof | None = Field(
        default=None,
        description="What proves that the processes of the attempt are dead: Node (the kubelet reported it), "
        "NeverStarted (the pod was never bound to a node), or Fenced (confirmed by an administrator, by the "
        "out-of-service taint, or by a reboot of the node). Waived: nothing does, and the attempt was "
        "replaced because onNodeLost is ReplaceUnsafe.",
    )
    proof_detail: str = Field(
        default="",
        description="Evidence for a proof that is Fenced or Waived, such as the note of the administrator.",
        max_length=512,
    )
    decision: Verdict | None = Field(
        default=None,
        description="What a user decided after the attempt, with the annotation asyncflow.dev/decision or "
        "asyncflow.dev/retry-now: Retry, Fail or Succeed.",
    )
    decision_note: str = Field(default="", description="Note given with the decision.", max_length=512)


class AsyncTaskStatus(StatusModel):
    """The observed state of a task."""

    phase: Phase = Field(
        default=Phase.PENDING,
        description="Summary of the conditions: Pending, Running, Succeeded, Failed or Cancelled. An attempt "
        "that ends within a few seconds is never shown as Running.",
    )
    reason: str = Field(
        default="",
        description="Reason for the phase, or what the task waits for, in CamelCase.",
        max_length=128,
    )
    message: str = Field(default="", description="Human-readable details about the reason.", max_length=4096)
    observed_generation: int | None = Field(
        default=None, description="metadata.generation of the task when this status was written."
    )
    run: int | None = Field(
        default=None,
        description="Number of the current run, from 1. The annotation asyncflow.dev/retry-now on a finished "
        "task begins a new run.",
    )
    stage: str | None = Field(default=None, description="Name of the current stage." + NOT_IMPLEMENTED)
    attempt: int | None = Field(
        default=None, description="Number of the newest attempt; unset before the first one."
    )
    failures: int | None = Field(
        default=None,
        description="Attempts of this run that failed, or ended with an unknown outcome before their lease "
        "expired; limited by retry.maxRetries.",
    )
    timeouts: int | None = Field(
        default=None,
        description="Attempts of this run that exceeded a deadline, did not start within pendingSeconds, or "
        "ended with an unknown outcome after their lease expired; limited by retry.maxTimeouts.",
    )
    disruptions: int | None = Field(
        default=None,
        description="Attempts of this run that were disrupted; limited by retry.maxDisruptions.",
    )
    snoozes: int | None = Field(
        default=None, description="Attempts of this run that snoozed; limited by retry.snooze.maxTimes."
    )
    retry_time: Time | None = Field(
        default=None, description="Earliest start of the next attempt; unset if there is no pause."
    )
    retry_now: str | None = Field(
        default=None,
        description="Value of the annotation asyncflow.dev/retry-now that was processed last.",
        max_length=256,
    )
    rejected_confirmation: str | None = Field(
        default=None,
        description="Value of the annotation asyncflow.dev/confirmed-dead that was given while the node of "
        "the attempt was Ready. It does not count, also later; another value does.",
        max_length=512,
    )
    shard: int | None = Field(default=None, description="Shard of the TaskType that the task belongs to.")
    lease: TaskLease | None = Field(
        default=None, description="Lease of the running attempt; unset if none runs."
    )
    attempts: tuple[Attempt, ...] = Field(
        default=(),
        max_length=50,
        description="Schedule log: the newest attempts, in ascending order; at most retention.historyLimit "
        "of the TaskType.",
    )
    context: dict[str, Any] | None = Field(
        default=None,
        description="Data that one stage passes to the next." + NOT_IMPLEMENTED,
        json_schema_extra=PRESERVE,
    )
    result: str | None = Field(
        default=None,
        description="Termination message of the attempt that succeeded." + NOT_IMPLEMENTED,
        max_length=4096,
    )
    run_time: Time | None = Field(
        default=None, description="When this run was requested; unset for the first run."
    )
    start_time: Time | None = Field(
        default=None, description="When the Job of the first attempt of this run was created."
    )
    completion_time: Time | None = Field(default=None, description="When the run finished.")
    conditions: Conditions = Field(
        default=(),
        description="Complete, Failed and Cancelled (the run has finished), Waiting (the reason says for "
        "what), Stuck (an attempt should have ended and its end is not confirmed), DecisionRequired (a user "
        "has to decide what comes next), Invalid (settings contradict each other). Absent if never True.",
    )

    def to_api(self) -> dict[str, Any]:
        """Return the status as written to the API server; it always has a phase."""
        return {"phase": self.phase.value, **super().to_api()}


class AsyncTask(ApiModel):
    """AsyncTask is one asynchronous task. The operator runs it as a Job for each attempt."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: AsyncTaskSpec = Field(description="Desired state of the task.")
    status: AsyncTaskStatus = Field(
        default_factory=AsyncTaskStatus, description="Observed state of the task, written by the operator."
    )

    @property
    def key(self) -> str:
        """Namespace and name of the task, as ``namespace/name``."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def type_key(self) -> tuple[str, str]:
        """Namespace and name of the TaskType of the task."""
        return self.metadata.namespace, self.spec.task_type_name
