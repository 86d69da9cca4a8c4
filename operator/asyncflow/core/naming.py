"""The names of Jobs: the claim of an attempt."""


def job_name(task_name: str, stage: int, attempt: int) -> str:
    """Return the name of an attempt's Job.

    No two attempts share one: the last two parts are numbers, so the task's name can be read back from it.
    """
    return f"{task_name}-{stage}-{attempt}"
