"""Settings shared by AsyncTask and TaskType: deadlines and retry limits, with their bounds."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from asyncflow.api.meta import ApiModel
from asyncflow.api.template import rule, rules

DAY = 86_400
MAX_SECONDS = 30 * DAY
"""Upper bound of every deadline and delay, so that no computed timestamp overflows."""

Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Limit = Annotated[int, Field(ge=1, le=1_000_000)]
ExitCode = Annotated[int, Field(ge=1, le=255)]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]

NOT_IMPLEMENTED = " Not implemented yet: the field has no effect."
"""Ends the description of a field that is not implemented yet."""


class Deadlines(ApiModel):
    """Time limits of an attempt and of a run."""

    attempt_seconds: Seconds = Field(
        default=180,
        description=(
            "Hard deadline of one attempt, in seconds from the acceptance of its pod by the kubelet "
            "(status.startTime of the pod); image pulls and init containers count. The kubelet enforces it "
            "as activeDeadlineSeconds of the pod: SIGTERM at the deadline, SIGKILL after "
            "terminationGracePeriodSeconds of the template. An attempt that exceeds it counts as a timeout."
        ),
    )
    pending_seconds: Seconds = Field(
        default=900,
        description=(
            "Maximum time, in seconds, from the creation of a pod to its acceptance by a kubelet. If the pod "
            "cannot be created, it counts from the creation of the Job. After that the attempt ends as "
            "NotStarted, which counts as a timeout."
        ),
    )
    total_seconds: Seconds | None = Field(
        default=None,
        description=(
            "Deadline of a run, in seconds: all its attempts and pauses. It counts from the latest of the "
            "creation of the task, its notBefore and the request for the run (asyncflow.dev/retry-now). "
            "After that a running attempt is stopped and the task fails (TotalDeadlineExceeded). Unset: no "
            "limit."
        ),
    )


class TaskDeadlines(ApiModel):
    """Deadlines of one task that override those of its TaskType."""

    attempt_seconds: Seconds | None = Field(
        default=None,
        description="Hard deadline of one attempt of this task, in seconds. Defaults to the deadline of the "
        "TaskType.",
    )
    pending_seconds: Seconds | None = Field(
        default=None,
        description="Maximum time, in seconds, until a kubelet accepts a pod of this task. Defaults to the "
        "time of the TaskType.",
    )
    total_seconds: Seconds | None = Field(
        default=None,
        description="Deadline of a run of this task, in seconds. Defaults to the deadline of the TaskType.",
    )


class Backoff(ApiModel):
    """The pause before an attempt: initial · multiplier^n, capped at the maximum, then jittered."""

    initial_seconds: Seconds = Field(
        default=10, description="Pause before the first retry of a run, in seconds, before jitter."
    )
    multiplier: float = Field(
        default=2, ge=1, le=10, description="Factor by which the pause grows with each retry of a run."
    )
    maximum_seconds: Seconds = Field(
        default=600, description="Maximum pause, in seconds, before jitter. At least initialSeconds."
    )
    jitter_percent: int = Field(
        default=20,
        ge=0,
        le=100,
        description="Maximum random change of a pause in either direction, in percent, so that tasks that "
        "failed together do not retry together. 0: no jitter.",
    )


class RetryBudget(ApiModel):
    """A token bucket shared by the retries of all tasks of a type: it keeps an outage from multiplying load.

    It holds at most ``minimum_per_minute + percent`` tokens.
    """

    percent: int = Field(
        default=20,
        ge=0,
        le=1000,
        description="Tokens added per 100 first attempts: 20 allows one retry per five first attempts.",
    )
    minimum_per_minute: Count = Field(
        default=10,
        description="Tokens added per minute, independent of first attempts. With 0 a retry waits until "
        "first attempts have added a token.",
    )


class Snooze(ApiModel):
    """An attempt that reports 'not ready yet': it frees its slot, and its repetition costs no retry."""

    exit_codes: tuple[ExitCode, ...] = Field(
        default=(75,),
        max_length=16,
        description="Exit codes with which an attempt snoozes (75 is EX_TEMPFAIL in sysexits.h). Must not "
        "overlap with nonRetriableExitCodes.",
    )
    delay_seconds: Seconds = Field(
        default=30, description="Pause between a snooze and the next attempt, in seconds."
    )
    max_times: Count = Field(
        default=1000,
        description="Maximum number of snoozes in one run; any further one counts as a failure.",
    )


Policy = Literal["Retry", "Fail", "Hold"]


class Retry(ApiModel):
    """When attempts are repeated, and how often."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.nonRetriableExitCodes) || !has(self.snooze) || !has(self.snooze.exitCodes) || "
                "!self.nonRetriableExitCodes.exists(c, c in self.snooze.exitCodes)",
                "nonRetriableExitCodes and snooze.exitCodes must not overlap (snooze.exitCodes defaults to "
                "[75]): remove the exit code from one of them",
            ),
            rule(
                "!has(self.backoff) || !has(self.backoff.initialSeconds) || "
                "!has(self.backoff.maximumSeconds) || "
                "self.backoff.initialSeconds <= self.backoff.maximumSeconds",
                "backoff.initialSeconds must not exceed backoff.maximumSeconds: lower the former or raise "
                "the latter",
            ),
        )
    )

    max_retries: Count = Field(
        default=3,
        description="Maximum number of retries of failed attempts in one run of a task. The failure after "
        "that fails the task (MaxRetriesExceeded). Timeouts and disruptions have limits of their own.",
    )
    max_timeouts: Count = Field(
        default=3,
        description="Maximum number of retries of attempts that exceeded attemptSeconds or pendingSeconds, "
        "in one run of a task. The timeout after that fails the task (MaxTimeoutsExceeded).",
    )
    backoff: Backoff = Field(
        default_factory=Backoff,
        description="Exponential backoff: the pause before the next attempt, after a failure, a timeout or a "
        "disruption.",
    )
    budget: RetryBudget = Field(
        default_factory=RetryBudget,
        description="Token bucket shared by the retries of all tasks of this type; a retry without a token "
        "waits (RetryBudgetExhausted). It holds at most minimumPerMinute + percent tokens. Repetitions after "
        "a disruption or a snooze, and retries requested by a user, take no token.",
    )
    non_retriable_exit_codes: tuple[ExitCode, ...] = Field(
        default=(),
        max_length=64,
        description="Exit codes after which the task fails without a retry (NonRetriableExitCode).",
    )
    snooze: Snooze = Field(
        default_factory=Snooze,
        description="Attempts that exit because their work is not ready yet: they are repeated later, at no "
        "cost to any budget.",
    )
    on_disruption: Policy = Field(
        default="Retry",
        description="Policy after an attempt that was ended by a drain, a preemption or an eviction: Retry "
        "(at most maxDisruptions times; counts neither as a failure nor as a timeout), Fail (the task fails) "
        "or Hold (the task waits for a decision: annotation asyncflow.dev/decision).",
    )
    max_disruptions: Count = Field(
        default=10,
        description="Maximum number of retries of disrupted attempts in one run of a task. The disruption "
        "after that fails the task (MaxDisruptionsExceeded).",
    )
    on_unknown_outcome: Policy = Field(
        default="Retry",
        description="Policy after an attempt that is proven dead and whose outcome is unknown: Retry (counts "
        "as a failure, or as a timeout if its lease had expired), Fail (the task fails) or Hold (the task "
        "waits for a decision: annotation asyncflow.dev/decision).",
    )


class TaskRetry(ApiModel):
    """Retry limits of one task that override those of its TaskType."""

    max_retries: Count | None = Field(
        default=None,
        description="Maximum number of retries of failed attempts in one run of this task. Defaults to the "
        "limit of the TaskType.",
    )
    max_timeouts: Count | None = Field(
        default=None,
        description="Maximum number of retries of attempts that exceeded attemptSeconds or pendingSeconds, "
        "in one run of this task. Defaults to the limit of the TaskType.",
    )
