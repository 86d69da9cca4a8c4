"""Which attempt of a task: its identity owns the names that are claims."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttemptId:
    """One attempt of a task. Its number is counted through all runs and stages."""

    run: int
    stage: int
    number: int

    def job_name(self, task_name: str) -> str:
        """Return the name of the attempt's Job, which is the claim.

        No two attempts share one: the last two parts are numbers, so the task's name can be read back.
        """
        return f"{task_name}-{self.stage}-{self.number}"

    def holder(self, task_uid: str) -> str:
        """Return how a lock names the attempt that holds it."""
        return f"{task_uid}/{self.run}/{self.stage}/{self.number}"
