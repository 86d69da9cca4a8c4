"""The settings that a task and its type share: deadlines, retry limits, and the bounds of each."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from asyncflow.api.meta import ApiModel
from asyncflow.api.template import rule, rules

DAY = 86_400
MAX_SECONDS = 30 * DAY
"""No deadline or delay is longer: the sums that a lease is made of stay far from any overflow."""

Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Limit = Annotated[int, Field(ge=1, le=1_000_000)]
ExitCode = Annotated[int, Field(ge=1, le=255)]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]

LATER = " Not in force yet: accepted and kept, its behavior comes with a later release."
"""Ends the description of a field whose behavior is still to come."""


class Deadlines(ApiModel):
    """How long things may take."""

    attempt_seconds: Seconds = Field(
        default=180,
        description=(
            "Hard deadline of one attempt, in seconds: from the node's acceptance of the pod (its startTime; "
            "image pull and init containers count) to its end. The kubelet enforces it alone, as the pod's "
            "activeDeadlineSeconds; after it the template's terminationGracePeriodSeconds runs, then SIGKILL."
        ),
    )
    pending_seconds: Seconds = Field(
        default=900,
        description=(
            "How long a pod may wait to be accepted by a node, in seconds, before its attempt ends as "
            "NotStarted."
        ),
    )
    total_seconds: Seconds | None = Field(
        default=None,
        description=(
            "Deadline of the task as a whole, in seconds from its creation (or its notBefore) to its end, "
            "all attempts and pauses included. No limit by default."
        ),
    )


class TaskDeadlines(ApiModel):
    """The deadlines in which one task differs from its type."""

    attempt_seconds: Seconds | None = Field(
        default=None, description="This task's hard deadline of one attempt, in seconds."
    )
    pending_seconds: Seconds | None = Field(
        default=None, description="How long a pod of this task may wait for a node, in seconds."
    )
    total_seconds: Seconds | None = Field(
        default=None, description="This task's deadline as a whole, in seconds from creation or notBefore."
    )


class Backoff(ApiModel):
    """The pause before the next attempt: initial · multiplier^n, up to the maximum, spread by the jitter."""

    initial_seconds: Seconds = Field(default=10, description="Pause before the first retry, in seconds.")
    multiplier: float = Field(
        default=2, ge=1, le=10, description="By how much each pause exceeds the one before it."
    )
    maximum_seconds: Seconds = Field(default=600, description="The longest pause, in seconds.")
    jitter_percent: int = Field(
        default=20,
        ge=0,
        le=100,
        description="By how much a pause is shortened or lengthened at random, in percent, so that tasks "
        "that failed together do not return together.",
    )


class RetryBudget(ApiModel):
    """How many retries all tasks of a type may make together, so that an outage does not become a storm."""

    percent: int = Field(
        default=20,
        ge=0,
        le=1000,
        description="Retries granted for each hundred first attempts, in percent.",
    )
    minimum_per_minute: Count = Field(
        default=10, description="Retries granted each minute even if there are few first attempts."
    )


class Snooze(ApiModel):
    """'Not ready yet, ask again': an end of an attempt that frees the slot and costs no retry."""

    exit_codes: tuple[ExitCode, ...] = Field(
        default=(75,),
        max_length=16,
        description="Exit codes that mean 'ask again later' (75 is EX_TEMPFAIL of sysexits.h).",
    )
    delay_seconds: Seconds = Field(default=30, description="How long until the next attempt, in seconds.")
    max_times: Count = Field(
        default=1000, description="After so many snoozes in one run, one more counts as a failure."
    )


Policy = Literal["Retry", "Fail", "Hold"]


class Retry(ApiModel):
    """When a next attempt is made, and how often."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.nonRetriableExitCodes) || !has(self.snooze) || !has(self.snooze.exitCodes) || "
                "!self.nonRetriableExitCodes.exists(c, c in self.snooze.exitCodes)",
                "an exit code can't be both in nonRetriableExitCodes and in snooze.exitCodes (75 is there by "
                "default): take it out of one of them",
            ),
            rule(
                "!has(self.backoff) || !has(self.backoff.initialSeconds) || "
                "!has(self.backoff.maximumSeconds) || "
                "self.backoff.initialSeconds <= self.backoff.maximumSeconds",
                "backoff.initialSeconds must not exceed backoff.maximumSeconds",
            ),
        )
    )

    max_retries: Count = Field(
        default=3,
        description="How many failed attempts of one task are retried; timeouts are counted separately.",
    )
    max_timeouts: Count = Field(
        default=3, description="How many attempts of one task that ran into a deadline are retried."
    )
    backoff: Backoff = Field(default_factory=Backoff, description="The pause before a retry.")
    budget: RetryBudget = Field(
        default_factory=RetryBudget,
        description="The retries that all tasks of this type share, as a token bucket: a retry without a "
        "token waits. It holds at most a minute's minimum and what a hundred first attempts grant. Repeats "
        "after a disruption or a snooze, and those that a person asks for, take no token.",
    )
    non_retriable_exit_codes: tuple[ExitCode, ...] = Field(
        default=(), max_length=64, description="Exit codes after which the task fails at once."
    )
    snooze: Snooze = Field(default_factory=Snooze, description="Attempts that ask to be repeated later.")
    on_disruption: Policy = Field(
        default="Retry",
        description="After an attempt that a drain, a preemption or an eviction ended: Retry (uncharged, at "
        "most maxDisruptions times), Fail, or Hold for a person's decision.",
    )
    max_disruptions: Count = Field(
        default=10, description="How many disruptions of one task are retried uncharged."
    )
    on_unknown_outcome: Policy = Field(
        default="Retry",
        description="After an attempt that is proven dead and whose result nobody knows: Retry (charged as a "
        "failure, or as a timeout if its lease had run out), Fail, or Hold for a person's decision.",
    )


class TaskRetry(ApiModel):
    """The retry limits in which one task differs from its type."""

    max_retries: Count | None = Field(
        default=None, description="How many failed attempts of this task are retried."
    )
    max_timeouts: Count | None = Field(
        default=None, description="How many attempts of this task that ran into a deadline are retried."
    )
