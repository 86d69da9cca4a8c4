"""TaskType: how a kind of task runs."""

from typing import Literal

from pydantic import ConfigDict, Field

from asyncflow.api.limits import DAY, LATER, Deadlines, Limit, Priority, Retry, Seconds
from asyncflow.api.meta import ApiModel, Conditions, ObjectMeta, StatusModel, Time
from asyncflow.api.template import PodTemplate, rule, rules

READY = "Ready"
SUSPENDED = "Suspended"
THROTTLED = "Throttled"
RETRY_BUDGET_EXHAUSTED = "RetryBudgetExhausted"

MAX_RETENTION = 10 * 365 * DAY


class Stage(ApiModel):
    """One step of a task that runs in several pods, one after the other."""

    name: str = Field(
        description="The stage's name, unique in the type.",
        max_length=32,
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    )
    template: PodTemplate = Field(description="The pod of this stage.")
    deadlines: Deadlines | None = Field(
        default=None, description="This stage's deadlines, instead of the type's."
    )
    retry: Retry | None = Field(default=None, description="This stage's retry, instead of the type's.")


class Lease(ApiModel):
    """How long an attempt's lease outlasts its work."""

    margin_seconds: Seconds = Field(
        default=30,
        description="How long a lease holds after the last moment of the work, in seconds: the clock skew.",
    )


class ErrorPolicy(ApiModel):
    """When the type suspends itself."""

    max_consecutive: Limit | None = Field(
        default=None,
        description="Suspend the type once so many tasks have failed in a row, in the order in which they "
        "ended; a task that succeeds sets the count back. A person resumes it: see the condition Suspended.",
    )
    max_total: Limit | None = Field(
        default=None,
        description="Suspend the type once so many tasks have failed since it was made or last resumed. "
        "Tasks that were deleted, also by retention, are not counted.",
    )


class Retention(ApiModel):
    """How long ended tasks stay."""

    succeeded_seconds: int = Field(
        default=7 * DAY,
        ge=0,
        le=MAX_RETENTION,
        description="Delete succeeded tasks so many seconds after their end (7 days), but not before their "
        "Jobs are gone: those stay for ten minutes.",
    )
    failed_seconds: int = Field(
        default=30 * DAY,
        ge=0,
        le=MAX_RETENTION,
        description="Delete failed and cancelled tasks so many seconds after their end (30 days), but not "
        "before their Jobs are gone.",
    )
    history_limit: int = Field(
        default=10,
        ge=1,
        le=50,
        description="How many attempts each task remembers in its status, the newest first kept.",
    )


class TaskTypeSpec(ApiModel):
    """What every task of the type has in common."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.template) != has(self.stages)", "set exactly one of template and stages"),
            rule(
                "!has(self.requireResult) || !self.requireResult || "
                "(has(self.captureResult) && self.captureResult)",
                "requireResult needs captureResult: true",
            ),
        )
    )

    template: PodTemplate | None = Field(default=None, description="The pod that makes an attempt.")
    stages: tuple[Stage, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Named stages that run one after the other, instead of template." + LATER,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    deadlines: Deadlines = Field(default_factory=Deadlines, description="How long things may take.")
    lease: Lease = Field(default_factory=Lease, description="The lease of an attempt.")
    retry: Retry = Field(default_factory=Retry, description="When a next attempt is made, and how often.")
    on_node_lost: Literal["Wait", "ReplaceUnsafe"] = Field(
        default="Wait",
        description="When the node of a running attempt no longer answers: Wait for its return or its "
        "fencing, or ReplaceUnsafe: start the next attempt once a living kubelet would have killed this one. "
        "The latter gives up 'never two at once' for a kubelet that is dead while its containers live on, "
        "and says so in the history (proofOfDeath: Waived) and in an event. Not for tasks with a lockKey.",
    )
    max_concurrent: int = Field(
        default=10,
        ge=1,
        le=100_000,
        description="How many attempts of this type run at the same time, at most.",
    )
    error_policy: ErrorPolicy = Field(
        default_factory=ErrorPolicy, description="When the type suspends itself."
    )
    priority: Priority = Field(
        default=0, description="Priority of tasks that set none; the higher goes first."
    )
    suspend: bool = Field(
        default=False, description="Start no more attempts of this type; running ones go on to their end."
    )
    max_tasks_per_shard: int = Field(
        default=5000,
        ge=1,
        le=100_000,
        description="How many tasks a shard takes before the next one is opened, about: it is looked at from "
        "time to time.",
    )
    retention: Retention = Field(default_factory=Retention, description="How long ended tasks stay.")
    capture_result: bool = Field(
        default=False,
        description="Keep a succeeded attempt's termination message as the task's result." + LATER,
    )
    require_result: bool = Field(
        default=False, description="Count an attempt as a success only if it left a result." + LATER
    )
    result_container: str | None = Field(
        default=None,
        max_length=63,
        description="Whose termination message is the result (the first container)." + LATER,
    )


class Shards(ApiModel):
    """The range of shards that are open."""

    begin: int = Field(ge=1, description="The first shard that still has tasks to end.")
    end: int = Field(ge=1, description="The shard that takes new tasks.")


class Counts(ApiModel):
    """Tasks by phase."""

    pending: int = Field(description="Tasks that wait: for a slot, or for what their own line says.")
    running: int = Field(description="Tasks whose attempt is known to run.")
    succeeded: int = Field(description="Tasks that succeeded.")
    failed: int = Field(description="Tasks that failed.")
    cancelled: int = Field(description="Tasks that were cancelled.")


class Errors(ApiModel):
    """What the error policy goes by."""

    consecutive: int = Field(
        default=0, description="Tasks that have failed in a row, in the order in which they ended."
    )
    total: int = Field(
        default=0, description="Tasks that have failed since the type was made or last resumed."
    )
    suspended: str = Field(
        default="", max_length=1024, description="Why the type has suspended itself, until it is resumed."
    )
    last_success_time: Time | None = Field(
        default=None, description="When the last task that succeeded ended, in whole seconds."
    )
    resumed: str | None = Field(
        default=None, max_length=256, description="The last asyncflow.dev/resume that was answered."
    )
    resume_time: Time | None = Field(default=None, description="When the type was last resumed.")


class RetryBudgetStatus(ApiModel):
    """The state of the type's retry budget."""

    tokens: float = Field(
        description="How many retries were granted and not yet taken when this was written."
    )
    update_time: Time | None = Field(default=None, description="When that was.")


class TaskTypeStatus(StatusModel):
    """What the operator has seen of the type."""

    observed_generation: int | None = Field(default=None, description="The generation last looked at.")
    shards: Shards | None = Field(default=None, description="The range of shards that are open.")
    counts: Counts | None = Field(
        default=None,
        description="The tasks that exist, by phase; some seconds old while there is work, then exact.",
    )
    waiting: int = Field(default=0, description="How many tasks wait for nothing but a slot.")
    waiting_since: Time | None = Field(
        default=None, description="Since when the first of them is due: its creation, or its notBefore."
    )
    errors: Errors = Field(default_factory=Errors, description="What the error policy goes by.")
    retry_budget: RetryBudgetStatus | None = Field(default=None, description="The retry budget's state.")
    conditions: Conditions = Field(
        default=(),
        description="Ready (the API server takes its Job), Suspended (by spec.suspend, or by itself: "
        "errorPolicy), Throttled (tasks wait for a slot), RetryBudgetExhausted.",
    )


class TaskType(ApiModel):
    """A kind of task: its pod, its deadlines, its retry budget and how many may run at once."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: TaskTypeSpec = Field(description="What every task of the type has in common.")
    status: TaskTypeStatus = Field(default_factory=TaskTypeStatus, description="What the operator has seen.")
