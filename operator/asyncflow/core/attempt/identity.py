"""The identity of an attempt, and the names derived from it that are claims."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttemptId:
    """One attempt of a task. Attempts are numbered consecutively across all runs and stages."""

    run: int
    stage: int
    number: int

    def job_name(self, task_name: str) -> str:
        """Return the name of the attempt's Job, which is the claim.

        It is unique: the last two parts are numbers, so the task's name can be recovered from it.
        """
        return f"{task_name}-{self.stage}-{self.number}"

    def holder(self, task_uid: str) -> str:
        """Return the ``holderIdentity`` of a lock's Lease that this attempt holds."""
        return f"{task_uid}/{self.run}/{self.stage}/{self.number}"
