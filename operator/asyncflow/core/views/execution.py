"""The execution of an attempt, as far as the rules look at it."""

import re
from dataclasses import dataclass
from datetime import datetime

from asyncflow.core.attempt.identity import AttemptId

EXIT_CODE = re.compile(r"\bfailed with exit code (\d+)\b")
"""As the Job controller puts it into a condition's message if an exit-code rule failed the Job (KEP-3329)."""

POLICY_REASON = "PodFailurePolicy"
DEADLINE_REASON = "DeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Execution:
    """What carries out an attempt: a Job."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    task_uid: str
    task_name: str
    type_name: str
    attempt: AttemptId
    created: datetime
    deleting: bool = False
    cut_short: bool = False
    """Whether somebody deleted it before it had finished."""
    complete: bool = False
    failed: bool = False
    ending: bool = False
    """A terminal condition is coming (``FailureTarget`` or ``SuccessCriteriaMet``), the pod may still run."""
    reason: str = ""
    message: str = ""
    finish_time: datetime | None = None
    has_pod: bool = False
    """Whether the Job controller has made its pod."""
    succeeded: int = 0
    stop_reason: str = ""
    stop_message: str = ""
    never_bound: bool = False
    """Whether its only pod was deleted before it had a node: there will be no other."""
    start_time: datetime | None = None
    """When the Job controller took it up."""
    deadline_seconds: int = 0
    """The Job's own ``activeDeadlineSeconds``, counted from its ``start_time``."""
    attempt_seconds: int = 0
    grace_seconds: int = 0
    margin_seconds: int = 0
    pending_seconds: int = 0
    lease_token: int = 0
    lease_acquired: datetime | None = None
    lease_expires: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether the Job controller has set a terminal condition."""
        return self.complete or self.failed

    @property
    def closed(self) -> bool:
        """Whether the Job controller makes no pod of it any more, though one may still run."""
        return self.finished or self.ending or self.deleting

    @property
    def exit_code(self) -> int | None:
        """The exit code that the Job's message keeps, if a rule on exit codes failed it."""
        found = EXIT_CODE.search(self.message) if self.reason == POLICY_REASON else None
        return int(found.group(1)) if found else None

    @property
    def disrupted(self) -> bool:
        """Whether the rule on ``DisruptionTarget`` failed the Job: what says nothing of its processes."""
        return self.reason == POLICY_REASON and "DisruptionTarget" in self.message
