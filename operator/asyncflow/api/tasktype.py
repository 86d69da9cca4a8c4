"""The resource TaskType: how the tasks of one type run."""

from typing import Literal

from pydantic import ConfigDict, Field

from asyncflow.api.limits import DAY, NOT_IMPLEMENTED, Deadlines, Limit, Priority, Retry, Seconds
from asyncflow.api.meta import ApiModel, Conditions, ObjectMeta, StatusModel, Time
from asyncflow.api.template import JobMeta, PodTemplate, rule, rules

READY = "Ready"
SUSPENDED = "Suspended"
THROTTLED = "Throttled"
RETRY_BUDGET_EXHAUSTED = "RetryBudgetExhausted"

MAX_RETENTION = 10 * 365 * DAY
"""Seconds."""


class Stage(ApiModel):
    """One stage of a task that runs as a sequence of pods."""

    name: str = Field(
        description="Name of the stage, unique in the TaskType.",
        max_length=32,
        pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    )
    template: PodTemplate = Field(description="Pod template of the stage.")
    deadlines: Deadlines | None = Field(
        default=None, description="Deadlines of the stage. Defaults to those of the TaskType."
    )
    retry: Retry | None = Field(
        default=None, description="Retries of the stage. Defaults to those of the TaskType."
    )


class Lease(ApiModel):
    """The lease of an attempt."""

    margin_seconds: Seconds = Field(
        default=30,
        description="Safety margin of the lease of an attempt, in seconds, which covers clock skew between "
        "nodes and operator. The lease expires at the deadline of the attempt + "
        "terminationGracePeriodSeconds + 2 s + marginSeconds.",
    )


class ErrorPolicy(ApiModel):
    """When the type suspends itself. Cancelled and deleted tasks do not count."""

    max_consecutive: Limit | None = Field(
        default=None,
        description="Number of consecutive failed tasks, in the order in which they finished, after which "
        "the type suspends itself. A success resets the count. Cancelled and deleted tasks do not count. "
        "The message of the condition Suspended has the command that resumes the type. Unset: no limit.",
    )
    max_total: Limit | None = Field(
        default=None,
        description="Number of tasks failed since the type was created or last resumed after which the type "
        "suspends itself. Cancelled tasks and tasks deleted by now, also by retention, do not count. Unset: "
        "no limit.",
    )


class Retention(ApiModel):
    """When finished tasks are deleted."""

    succeeded_seconds: int = Field(
        default=7 * DAY,
        ge=0,
        le=MAX_RETENTION,
        description="Seconds from the completionTime of a succeeded task to its deletion. Defaults to 7 "
        "days. A task is not deleted before its Jobs, which are deleted ten minutes after they finish.",
    )
    failed_seconds: int = Field(
        default=30 * DAY,
        ge=0,
        le=MAX_RETENTION,
        description="Seconds from the completionTime of a failed or cancelled task to its deletion. Defaults "
        "to 30 days. A task is not deleted before its Jobs, which are deleted ten minutes after they finish.",
    )
    history_limit: int = Field(
        default=10,
        ge=1,
        le=50,
        description="Maximum number of entries in status.attempts of a task; the oldest are dropped first.",
    )


class TaskTypeSpec(ApiModel):
    """The desired state of a TaskType: what its tasks have in common."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.template) != has(self.stages)", "set exactly one of template and stages"),
            rule(
                "!has(self.requireResult) || !self.requireResult || "
                "(has(self.captureResult) && self.captureResult)",
                "requireResult requires captureResult: true",
            ),
        )
    )

    template: PodTemplate | None = Field(
        default=None,
        description="Pod template of an attempt, as in a Job. Set exactly one of template and stages.",
    )
    stages: tuple[Stage, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Stages that run one after the other, each in a pod of its own, instead of template. Not "
        "implemented yet: a TaskType with stages is not Ready (StagesNotSupported), and its tasks wait.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    job_metadata: JobMeta = Field(
        default_factory=JobMeta,
        description="Labels and annotations of the Jobs, for controllers that manage Jobs, such as Kueue.",
    )
    deadlines: Deadlines = Field(
        default_factory=Deadlines,
        description="Time limits of an attempt and of a run. A task can override them.",
    )
    lease: Lease = Field(
        default_factory=Lease,
        description="Lease of an attempt: when it expires, an attempt that has not ended is Stuck.",
    )
    retry: Retry = Field(
        default_factory=Retry, description="When attempts are repeated, how often, and after which pause."
    )
    on_node_lost: Literal["Wait", "ReplaceUnsafe"] = Field(
        default="Wait",
        description="Policy for an attempt whose node no longer reports. Wait: the next attempt starts only "
        "with proof that the processes of this one are dead. ReplaceUnsafe: it also starts once the lease of "
        "this one has expired, that is, after a working kubelet would have killed it. If the kubelet is down "
        "and its containers still run, two attempts then run at the same time; the replaced one has "
        "proofOfDeath: Waived, and an event reports it. Tasks with a lockKey become Invalid.",
    )
    max_concurrent: int = Field(
        default=10,
        ge=1,
        le=100_000,
        description="Maximum number of attempts of this type that run at the same time. A lower value stops "
        "no running attempt.",
    )
    error_policy: ErrorPolicy = Field(
        default_factory=ErrorPolicy,
        description="Limits of failed tasks at which the type suspends itself: it starts no more attempts "
        "until a user resumes it with the annotation asyncflow.dev/resume.",
    )
    priority: Priority = Field(
        default=0, description="Priority of tasks that set none; the highest starts first."
    )
    suspend: bool = Field(
        default=False,
        description="Start no more attempts of this type. Running attempts are not stopped. Defaults to "
        "false.",
    )
    max_tasks_per_shard: int = Field(
        default=5000,
        ge=1,
        le=100_000,
        description="Number of tasks in a shard at which the next shard is opened. Approximate: it is "
        "checked periodically (ASYNCFLOW_SPLIT_SECONDS of the operator).",
    )
    retention: Retention = Field(
        default_factory=Retention, description="When finished tasks and old attempts are deleted."
    )
    capture_result: bool = Field(
        default=False,
        description="Store the termination message of the attempt that succeeded as the result of the task. "
        "Defaults to false." + NOT_IMPLEMENTED,
    )
    require_result: bool = Field(
        default=False,
        description="Count an attempt without a result as a failure. Requires captureResult: true. Defaults "
        "to false." + NOT_IMPLEMENTED,
    )
    result_container: str | None = Field(
        default=None,
        max_length=63,
        description="Name of the container whose termination message is the result. Defaults to the first "
        "container." + NOT_IMPLEMENTED,
    )


class Shards(ApiModel):
    """The range of open shards."""

    begin: int = Field(ge=1, description="First shard that has unfinished tasks, or the last one.")
    end: int = Field(ge=1, description="Last shard: new tasks are assigned to it.")


class Counts(ApiModel):
    """The existing tasks of a type, by phase."""

    pending: int = Field(description="Tasks in phase Pending.")
    running: int = Field(description="Tasks in phase Running; short attempts are never recorded as Running.")
    succeeded: int = Field(description="Tasks in phase Succeeded.")
    failed: int = Field(description="Tasks in phase Failed.")
    cancelled: int = Field(description="Tasks in phase Cancelled.")


class Errors(ApiModel):
    """The state of the error policy."""

    consecutive: int = Field(
        default=0,
        description="Consecutive failed tasks, in the order in which they finished, since the last success "
        "and since the type was created or last resumed. Deleted tasks do not count.",
    )
    total: int = Field(
        default=0,
        description="Tasks failed since the type was created or last resumed. Deleted tasks do not count.",
    )
    suspended: str = Field(
        default="",
        max_length=1024,
        description="Why the type has suspended itself, with the command that resumes it; empty if it has "
        "not.",
    )
    last_success_time: Time | None = Field(
        default=None, description="completionTime of the task that was the last to succeed."
    )
    resumed: str | None = Field(
        default=None,
        max_length=256,
        description="Value of the annotation asyncflow.dev/resume that was processed last.",
    )
    resume_time: Time | None = Field(default=None, description="When the type was last resumed.")


class RetryBudgetStatus(ApiModel):
    """The state of the retry budget of a type."""

    tokens: float = Field(description="Tokens in the bucket at updateTime, after the last withdrawal.")
    update_time: Time | None = Field(default=None, description="When tokens were last withdrawn.")


class TaskTypeStatus(StatusModel):
    """The observed state of a TaskType."""

    observed_generation: int | None = Field(
        default=None, description="metadata.generation whose Job was last created as a dry run."
    )
    shards: Shards | None = Field(default=None, description="Range of open shards.")
    counts: Counts | None = Field(
        default=None,
        description="Existing tasks by phase. Updated periodically (ASYNCFLOW_ROLL_SECONDS of the operator), "
        "and exact once nothing changes.",
    )
    waiting: int = Field(
        default=0, description="Tasks that wait only for a slot (maxConcurrent), as of the last count."
    )
    waiting_since: Time | None = Field(
        default=None,
        description="Since when the longest-waiting of these tasks could have started: the latest of its "
        "creation, its notBefore and the request for its run.",
    )
    errors: Errors = Field(default_factory=Errors, description="State of the error policy.")
    retry_budget: RetryBudgetStatus | None = Field(
        default=None, description="State of the retry budget; unset until a token is withdrawn."
    )
    conditions: Conditions = Field(
        default=(),
        description="Ready (the API server accepts the Job of the type), Suspended (by spec.suspend or by "
        "errorPolicy), Throttled (tasks wait for a slot), RetryBudgetExhausted (retries wait for a token).",
    )


class TaskType(ApiModel):
    """TaskType defines how its AsyncTasks run: pod template, deadlines, retries and concurrency."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: TaskTypeSpec = Field(description="Desired state of the type: what its tasks have in common.")
    status: TaskTypeStatus = Field(
        default_factory=TaskTypeStatus, description="Observed state of the type, written by the operator."
    )
