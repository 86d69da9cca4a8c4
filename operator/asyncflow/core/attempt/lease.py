"""When an attempt's lease expires, and the deadline of its Job.

An expired lease is never proof of death: it triggers a check of the attempt, not its replacement.
"""

from datetime import datetime, timedelta

from asyncflow.core.attempt.settings import AttemptSettings

BACKSTOP_SECONDS = 2
"""How much later than the task's total deadline the Job's is: the operator stops the attempt first."""

KUBELET_SECONDS = 2
"""Time a kubelet may need, after the deadline and the grace period, to kill the last process."""


def job_deadline_seconds(settings: AttemptSettings, total_left: float | None) -> int:
    """Return the Job's ``activeDeadlineSeconds``: a backstop behind the pod's own deadline.

    A pod may be pending and then run, each for its full time; the rest of the task's total deadline limits
    both together.

    Args:
        settings: the settings of the attempt.
        total_left: seconds left until the task's total deadline; None if it has none.
    """
    longest = settings.pending_seconds + settings.attempt_seconds
    if total_left is None:
        return longest
    return min(longest, max(0, int(total_left)) + BACKSTOP_SECONDS)


def provisional_expiry(created: datetime, job_deadline: int, settings: AttemptSettings) -> datetime:
    """Return when the lease expires, as long as the pod's start time is unknown.

    It covers the worst case: while kube-controller-manager is down, a pod that is bound just before the
    Job's deadline runs a full attempt.
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
    """Return when the lease expires, once the pod's ``startTime`` is known.

    By then, a live kubelet has killed the pod.
    """
    return pod_start + timedelta(seconds=attempt_seconds + grace_seconds + KUBELET_SECONDS + margin_seconds)
