"""How long an attempt may live: the arithmetic of leases and of the Job's own deadline.

A lease is an alarm, never a proof: after its end the attempt is looked for, not replaced.
"""

from datetime import datetime, timedelta

from asyncflow.core.attempt.settings import AttemptSettings

BACKSTOP_SECONDS = 2
"""By how much the Job's deadline comes after the task's total one: the operator ends the attempt first."""

KUBELET_SECONDS = 2
"""What a kubelet may take beyond deadline and grace to kill the last process."""


def job_deadline_seconds(settings: AttemptSettings, total_left: float | None) -> int:
    """Return the Job's ``activeDeadlineSeconds``: the backstop behind the pod's own deadline.

    A pod may wait and then run for its whole attempt; what is left of the task's total cuts that short.
    """
    longest = settings.pending_seconds + settings.attempt_seconds
    if total_left is None:
        return longest
    return min(longest, max(0, int(total_left)) + BACKSTOP_SECONDS)


def provisional_expiry(created: datetime, job_deadline: int, settings: AttemptSettings) -> datetime:
    """Return the lease's end before the pod's start is known.

    A pod that is bound at the last moment runs a full attempt when the controller-manager is away.
    """
    return running_expiry(
        created + timedelta(seconds=job_deadline),
        attempt_seconds=settings.attempt_seconds,
        grace_seconds=settings.grace_seconds,
        margin_seconds=settings.margin_seconds,
    )


def running_expiry(
    pod_start: datetime, *, attempt_seconds: int, grace_seconds: int, margin_seconds: int
) -> datetime:
    """Return the lease's end once ``startTime`` is known: after it, a living kubelet has killed the pod."""
    return pod_start + timedelta(seconds=attempt_seconds + grace_seconds + KUBELET_SECONDS + margin_seconds)
