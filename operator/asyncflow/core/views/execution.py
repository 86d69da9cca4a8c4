"""The view of the Job that executes an attempt."""

import re
from dataclasses import dataclass
from datetime import datetime

from asyncflow.core.attempt.identity import AttemptId

EXIT_CODE = re.compile(r"\bContainer (\S+) for pod \S+ failed with exit code (\d+)\b")
"""Part of the condition's message when an exit-code rule failed the Job (KEP-3329)."""

POLICY_REASON = "PodFailurePolicy"
DEADLINE_REASON = "DeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Execution:
    """The Job that executes an attempt."""

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
    deleted_unfinished: bool = False
    """Whether it was deleted before it had finished."""
    complete: bool = False
    failed: bool = False
    ending: bool = False
    """Whether a terminal condition is pending: ``FailureTarget`` or ``SuccessCriteriaMet`` is set.

    The pod may still run.
    """
    reason: str = ""
    message: str = ""
    finish_time: datetime | None = None
    exit_code: int | None = None
    """The exit code in the Job's message, unless it is that of a sidecar."""
    has_pod: bool = False
    """Whether the Job controller has created its pod."""
    succeeded: int = 0
    stop_reason: str = ""
    stop_message: str = ""
    suspended: bool = False
    """Whether it is suspended (``spec.suspend``): its pods are deleted, and none is created meanwhile."""
    was_suspended: bool = False
    """Whether it is or has been suspended: its ``start_time`` is that of its last resumption."""
    without_pod: bool = False
    """Whether its pods were listed, with none found, while it existed and could create none any more."""
    never_bound: bool = False
    """Whether its only pod was deleted before it was bound to a node: no other pod will be created."""
    start_time: datetime | None = None
    """When the Job controller started to process it."""
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
        """Whether the Job controller creates no more pods for it; one may still run."""
        return self.finished or self.ending or self.deleting

    @property
    def exit_reported(self) -> bool:
        """Whether an exit code failed the Job: its kubelet has reported the end of the containers."""
        return self.reason == POLICY_REASON and EXIT_CODE.search(self.message) is not None

    @property
    def disrupted(self) -> bool:
        """Whether the rule on ``DisruptionTarget`` failed the Job; its processes may still run."""
        return self.reason == POLICY_REASON and "DisruptionTarget" in self.message
