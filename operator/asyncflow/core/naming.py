"""Names that are claims: of Jobs, and of the Leases that are locks."""

from hashlib import blake2b


def job_name(task_name: str, stage: int, attempt: int) -> str:
    """Return the name of an attempt's Job.

    No two attempts share one: the last two parts are numbers, so the task's name can be read back from it.
    """
    return f"{task_name}-{stage}-{attempt}"


def lock_name(lock_key: str) -> str:
    """Return the name of the Lease that is the lock of a key: a hash, since a key may be any text."""
    return f"asyncflow-lock-{blake2b(lock_key.encode(), digest_size=16).hexdigest()}"


def holder_name(task_uid: str, run: int, stage: int, attempt: int) -> str:
    """Return how a lock names the attempt that holds it."""
    return f"{task_uid}/{run}/{stage}/{attempt}"
