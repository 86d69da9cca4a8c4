"""AsyncTask: one task."""

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field

from asyncflow.api.limits import LATER, Priority, TaskDeadlines, TaskRetry
from asyncflow.api.meta import ApiModel, Conditions, ObjectMeta, StatusModel, Time
from asyncflow.api.template import PRESERVE, rule, rules


class Phase(StrEnum):
    """Where a task stands; a summary of its conditions."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
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
    """How it is known that an attempt's processes are dead; or that nobody knows and it was waived."""

    NODE = "Node"
    NEVER_STARTED = "NeverStarted"
    FENCED = "Fenced"
    WAIVED = "Waived"


class Verdict(StrEnum):
    """What a person decided after an attempt."""

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

MOMENT = (
    r"^2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
    r"(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
)
"""A moment as every part of the system reads it; RFC 3339 allows more than Python and Go agree on."""

IMMUTABLE = "is immutable: it says what the task is. Create another task instead"


class AsyncTaskSpec(ApiModel):
    """What is to be done, and what this task has of its own beside its type."""

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
                "cancel is one way: a cancelled task stays cancelled. Create another task instead",
            ),
        )
    )

    task_type_name: str = Field(
        description="The TaskType in the same namespace that says how the task runs.",
        min_length=1,
        max_length=63,
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    )
    payload: dict[str, Any] | None = Field(
        default=None,
        description="Input of the task, any JSON object of at most 32 KiB: the container finds it as "
        "ASYNCFLOW_PAYLOAD. Immutable. Numbers beyond 64 bits belong in strings.",
        json_schema_extra=PRESERVE,
    )
    priority: Priority | None = Field(
        default=None, description="The higher goes first; by default the type's priority."
    )
    not_before: Time | None = Field(
        default=None,
        description="No attempt starts before this moment (RFC 3339, such as 2026-01-31T08:00:00Z).",
        json_schema_extra={"pattern": MOMENT},
    )
    lock_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="No two tasks of one namespace with the same key run at the same time; the fencing token "
        "then grows from holder to holder of the key. Immutable.",
    )
    idempotency_key: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="What a called service recognizes a repetition by, the same in every attempt "
        "(ASYNCFLOW_IDEMPOTENCY_KEY); by default the task's uid. Immutable.",
    )
    deadlines: TaskDeadlines = Field(
        default_factory=TaskDeadlines, description="Deadlines in which this task differs from its type."
    )
    retry: TaskRetry = Field(
        default_factory=TaskRetry, description="Retry limits in which this task differs from its type."
    )
    suspend: bool = Field(
        default=False, description="Start no more attempts of this task; a running one goes on to its end."
    )
    cancel: bool = Field(
        default=False,
        description="End the task: a running attempt is stopped, no other is started. One way.",
    )


class TaskLease(ApiModel):
    """Who works on the task, and until when that is known to end."""

    holder: str = Field(description="The attempt that holds it, as the name of its Job.")
    token: int = Field(
        description="Fencing token: grows with every attempt of the task, or from holder to holder of its "
        "lockKey."
    )
    acquire_time: Time = Field(description="When it was taken.")
    expire_time: Time = Field(description="When it runs out. An alarm, never a proof of death.")


class Attempt(ApiModel):
    """One line of the schedule log."""

    number: int = Field(ge=1, description="The attempt's number, counted through all runs and stages.")
    run: int = Field(default=1, ge=1, description="The run it belongs to.")
    stage: int = Field(default=0, ge=0, description="The index of its stage.")
    job_name: str = Field(description="The Job that made it.")
    job_uid: str = Field(default="", description="That Job's uid.")
    pod_uid: str = Field(default="", description="The uid of its pod, if known.", max_length=64)
    node_name: str | None = Field(default=None, description="Where it ran, if known.")
    node_boot: str | None = Field(
        default=None,
        max_length=256,
        description="The machine and its boot when it ran there (systemUUID/bootID), if known: after another "
        "boot of the same machine its processes are gone.",
    )
    start_time: Time | None = Field(default=None, description="When its Job was created.")
    end_time: Time | None = Field(default=None, description="When it ended.")
    outcome: Outcome | None = Field(default=None, description="How it ended.")
    exit_code: int | None = Field(
        default=None, description="The exit code of the container that failed, if known."
    )
    reason: str = Field(default="", description="Why it ended, as one CamelCase word.", max_length=128)
    message: str = Field(default="", description="Why it ended, as a sentence for people.", max_length=1024)
    proof_of_death: Proof | None = Field(
        default=None,
        description="How it is known that its processes are dead: Node (the kubelet said so), NeverStarted, "
        "Fenced. Waived: it is not known; onNodeLost is ReplaceUnsafe.",
    )
    proof_detail: str = Field(
        default="", description="Who or what proved it, where it was not the node.", max_length=512
    )
    decision: Verdict | None = Field(
        default=None, description="What a person decided after it: Retry, Fail or Succeed."
    )
    decision_note: str = Field(default="", description="What the person noted with it.", max_length=512)


class AsyncTaskStatus(StatusModel):
    """Where the task stands."""

    phase: Phase = Field(
        default=Phase.PENDING, description="Pending, Running, Succeeded, Failed or Cancelled."
    )
    reason: str = Field(default="", description="Why, as one CamelCase word.", max_length=128)
    message: str = Field(default="", description="Why, as a sentence for people.", max_length=4096)
    observed_generation: int | None = Field(
        default=None, description="The generation of the spec last acted on."
    )
    run: int | None = Field(
        default=None, description="The run, from 1; asking for a retry of an ended task adds one."
    )
    stage: str | None = Field(default=None, description="The stage at work." + LATER)
    attempt: int | None = Field(default=None, description="The number of the newest attempt.")
    failures: int | None = Field(default=None, description="Failed attempts in this run.")
    timeouts: int | None = Field(default=None, description="Attempts in this run that ran into a deadline.")
    disruptions: int | None = Field(default=None, description="Attempts in this run that were disrupted.")
    snoozes: int | None = Field(default=None, description="Attempts in this run that asked to be repeated.")
    retry_time: Time | None = Field(default=None, description="When the next attempt may start.")
    retry_now: str | None = Field(
        default=None, description="The last asyncflow.dev/retry-now that was answered.", max_length=256
    )
    shard: int | None = Field(default=None, description="The shard of its type that it belongs to.")
    lease: TaskLease | None = Field(default=None, description="The lease of the attempt that runs.")
    attempts: tuple[Attempt, ...] = Field(
        default=(),
        max_length=50,
        description="The schedule log, oldest first; at most retention.historyLimit of them.",
    )
    context: dict[str, Any] | None = Field(
        default=None, description="What one stage hands to the next." + LATER, json_schema_extra=PRESERVE
    )
    result: str | None = Field(
        default=None,
        description="What the last attempt wrote to its termination message." + LATER,
        max_length=4096,
    )
    run_time: Time | None = Field(
        default=None, description="When this run was asked for, from the second on."
    )
    start_time: Time | None = Field(default=None, description="When the first attempt of this run started.")
    completion_time: Time | None = Field(default=None, description="When the run ended.")
    conditions: Conditions = Field(
        default=(),
        description="Complete, Failed, Cancelled, Waiting (for what: its reason), Stuck, DecisionRequired, "
        "Invalid.",
    )

    def to_api(self) -> dict[str, Any]:
        """Return the status as it is written; its phase always is."""
        return {"phase": self.phase.value, **super().to_api()}


class AsyncTask(ApiModel):
    """One task: what to do, and where it stands."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: AsyncTaskSpec = Field(description="What is to be done.")
    status: AsyncTaskStatus = Field(default_factory=AsyncTaskStatus, description="Where the task stands.")

    @property
    def key(self) -> str:
        """The task's namespace and name, as logs and people write them."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def type_key(self) -> tuple[str, str]:
        """Namespace and name of its type."""
        return self.metadata.namespace, self.spec.task_type_name
