"""All reasons of conditions, statuses, attempts and events, each with its meaning and what to do.

``docs/reference/reasons.md`` is generated from this module (`asyncflow.cli.reference`).
"""

from typing import Final, Self

NO_ACTION = "No action needed"


class Reason(str):
    """A reason in the API, in CamelCase, with its documentation."""

    meaning: str
    remedy: str
    __slots__ = ("meaning", "remedy")

    def __new__(cls, name: str, meaning: str, remedy: str = NO_ACTION) -> Self:
        """Create a reason."""
        reason = super().__new__(cls, name)
        reason.meaning = meaning
        reason.remedy = remedy
        return reason

    def __getnewargs__(self) -> tuple[str, str, str]:  # type: ignore[override]
        """Return the arguments with which ``copy`` and ``pickle`` create the reason."""
        return str(self), self.meaning, self.remedy


# Why a task waits: condition Waiting, and the column REASON.

BACK_OFF: Final = Reason(
    "BackOff",
    "The pause before the next attempt (`retry.backoff`) has not ended; the column RETRY shows its end",
)
SNOOZED: Final = Reason(
    "Snoozed",
    "The attempt exited with one of `retry.snooze.exitCodes`; it is repeated after "
    "`retry.snooze.delaySeconds`",
)
NOT_BEFORE: Final = Reason("NotBefore", "`spec.notBefore` is in the future")
SUSPENDED: Final = Reason("Suspended", "`spec.suspend` of the task is true", "Set it to false")
TASK_TYPE_SUSPENDED: Final = Reason(
    "TaskTypeSuspended",
    "`spec.suspend` of the TaskType is true, or the type has suspended itself (`errorPolicy`)",
    "Set it to false, or resume the type with the command in its condition `Suspended`",
)
UNKNOWN_TASK_TYPE: Final = Reason(
    "UnknownTaskType",
    "The namespace has no TaskType of that name, or it is being deleted",
    "Create the TaskType, or delete the task",
)
TASK_TYPE_NOT_READY: Final = Reason(
    "TaskTypeNotReady",
    "The condition `Ready` of the TaskType is False; the message is that of the condition",
    "Correct the TaskType: see the reason of its condition `Ready`",
)
QUOTA_EXCEEDED: Final = Reason(
    "QuotaExceeded",
    "A ResourceQuota for Jobs or pods is exhausted",
    "Raise the quota, or wait: the start is retried after 5 s, then at growing intervals of up to 60 s",
)
FORBIDDEN: Final = Reason(
    "Forbidden",
    "The API server forbids the creation of the Job (403), for example because of an admission policy; the "
    "message is that of the API server",
    "Correct what the message names: the start is retried",
)
JOB_REJECTED: Final = Reason(
    "JobRejected",
    "The API server rejects the Job as invalid; the message is that of the API server. On a TaskType: not "
    "Ready",
    "Correct what the message names in the template of the TaskType",
)
API_SERVER_ERROR: Final = Reason(
    "ApiServerError",
    "The API server or an admission webhook returns an error; the message is that of the API server",
    "Fix the API server or the webhook: the start is retried",
)
JOB_NAME_CONFLICT: Final = Reason(
    "JobNameConflict",
    "A Job that does not belong to asyncflow has the name that the next attempt needs",
    "Delete that Job, or create the task under another name",
)
PREVIOUS_JOB_TERMINATING: Final = Reason(
    "PreviousJobTerminating",
    "The Job with the name of the next attempt is still being deleted, or belongs to a deleted task of the "
    "same name: its processes may still run",
)
LOCK_HELD: Final = Reason(
    "LockHeld", "Another attempt holds the `lockKey` of the task; the message names the Lease of the lock"
)
LOCK_ORPHANED: Final = Reason(
    "LockOrphaned",
    "The task of the attempt that holds the lock was deleted or has finished, and nothing proves that its "
    "processes are dead",
    "Verify that the processes are dead, then run the command in the message",
)
RETRY_BUDGET_EXHAUSTED: Final = Reason(
    "RetryBudgetExhausted",
    "The retry budget that the tasks of the type share (`retry.budget`) has no token for this retry",
    "Wait until tokens are added, or raise the budget",
)
POD_NOT_CREATED: Final = Reason(
    "PodNotCreated",
    "The Job controller fails to create the pod; the message is that of its event",
    "Correct what the message names: see the events of the Job",
)
JOB_CONTROLLER_BACKLOG: Final = Reason(
    "JobControllerBacklog",
    "A Job has had no pod for 60 s, and no event reports an error; `pendingSeconds` does not apply",
    "If it persists, check kube-controller-manager",
)
UNSCHEDULABLE: Final = Reason(
    "Unschedulable",
    "No node fits the pod; the message is that of the scheduler",
    "Add capacity, or wait: the attempt ends as `NotStarted` after `pendingSeconds`",
)
IMAGE_PULL_BACK_OFF: Final = Reason(
    "ImagePullBackOff",
    "The node fails to pull the image. Other waiting reasons of containers, such as "
    "`CreateContainerConfigError`, are shown in the same way",
    "Correct the image or the registry credentials; the attempt ends at its deadline",
)

CONTAINER_CREATING: Final = Reason(
    "ContainerCreating",
    "The lease of the attempt has expired while its node pulls the image or mounts volumes, which cannot "
    "be interrupted. If a container starts afterwards, the kubelet stops it",
)
JOB_SUSPENDED: Final = Reason(
    "JobSuspended",
    "The Job is suspended by another controller, such as Kueue, or by a user; `pendingSeconds` applies. Of "
    "an attempt: the Job was suspended after its pod had run",
    "Admit the workload in that controller, or set `spec.suspend` of the Job to false",
)

# Conditions Stuck, DecisionRequired and Invalid.

NO_PROOF_OF_DEATH: Final = Reason(
    "NoProofOfDeath",
    "An attempt has ended according to the API, and its node has not confirmed that its processes are dead",
    "Wait for the node to return, taint it with `node.kubernetes.io/out-of-service` if it is shut down, or "
    "confirm the death with the command in the message",
)
LEASE_EXPIRED: Final = Reason(
    "LeaseExpired",
    "The lease of an attempt has expired, and its node has not reported the end of the attempt",
    "Wait for the node to return, taint it with `node.kubernetes.io/out-of-service` if it is shut down, or "
    "confirm the death with the command in the message",
)
JOB_OVERDUE: Final = Reason(
    "JobOverdue",
    "A Job has not ended 60 s after its activeDeadlineSeconds",
    "Check kube-controller-manager",
)
DECISION_REQUIRED: Final = Reason(
    "DecisionRequired",
    "An attempt was disrupted or ended with an unknown outcome, and the policy for that "
    "(`retry.onDisruption`, `retry.onUnknownOutcome`) is `Hold`",
    "Decide what comes next with the command in the message",
)
CONFLICTING_SETTINGS: Final = Reason(
    "ConflictingSettings",
    "Settings of the task and of its TaskType contradict each other; the message names them",
    "Change the TaskType, or create the task with another TaskType",
)

WAITING_REASONS: Final = (
    BACK_OFF, NOT_BEFORE, SUSPENDED, TASK_TYPE_SUSPENDED, UNKNOWN_TASK_TYPE, TASK_TYPE_NOT_READY,
    QUOTA_EXCEEDED, FORBIDDEN, JOB_REJECTED, API_SERVER_ERROR, JOB_NAME_CONFLICT, PREVIOUS_JOB_TERMINATING,
    POD_NOT_CREATED, JOB_CONTROLLER_BACKLOG, UNSCHEDULABLE, IMAGE_PULL_BACK_OFF, SNOOZED, LOCK_HELD,
    RETRY_BUDGET_EXHAUSTED, CONFLICTING_SETTINGS, DECISION_REQUIRED, LOCK_ORPHANED, NO_PROOF_OF_DEATH,
    LEASE_EXPIRED, JOB_OVERDUE, CONTAINER_CREATING, JOB_SUSPENDED,
)  # fmt: skip
"""In the order of the table in ``docs/reference/reasons.md``."""

# Why a task has finished: conditions Complete, Failed and Cancelled.

COMPLETED: Final = Reason("Completed", "The last attempt succeeded")
SUCCEEDED_BY_DECISION: Final = Reason(
    "SucceededByDecision", "A user decided so (annotation `asyncflow.dev/decision`)"
)
CANCELLED: Final = Reason("Cancelled", "`spec.cancel` was set")
MAX_RETRIES_EXCEEDED: Final = Reason("MaxRetriesExceeded", "More attempts failed than `maxRetries` allows")
MAX_TIMEOUTS_EXCEEDED: Final = Reason(
    "MaxTimeoutsExceeded", "More attempts timed out than `maxTimeouts` allows"
)
MAX_DISRUPTIONS_EXCEEDED: Final = Reason(
    "MaxDisruptionsExceeded", "More attempts were disrupted than `maxDisruptions` allows"
)
NON_RETRIABLE_EXIT_CODE: Final = Reason(
    "NonRetriableExitCode", "The exit code of the last attempt is one of `nonRetriableExitCodes`"
)
DISRUPTED: Final = Reason("Disrupted", "An attempt was disrupted, and `onDisruption` is `Fail`")
OUTCOME_UNKNOWN: Final = Reason(
    "OutcomeUnknown", "An attempt ended with an unknown outcome, and `onUnknownOutcome` is `Fail`"
)
FAILED_BY_DECISION: Final = Reason(
    "FailedByDecision", "A user decided so (annotation `asyncflow.dev/decision`)"
)
TOTAL_DEADLINE_EXCEEDED: Final = Reason(
    "TotalDeadlineExceeded", "The run did not finish within `deadlines.totalSeconds`"
)
PAYLOAD_TOO_LARGE: Final = Reason("PayloadTooLarge", "The payload exceeds 32 KiB as compact JSON")

FINISHED_REASONS: Final = (
    MAX_RETRIES_EXCEEDED, MAX_TIMEOUTS_EXCEEDED, MAX_DISRUPTIONS_EXCEEDED, NON_RETRIABLE_EXIT_CODE, DISRUPTED,
    OUTCOME_UNKNOWN, FAILED_BY_DECISION, TOTAL_DEADLINE_EXCEEDED, PAYLOAD_TOO_LARGE, CANCELLED,
    SUCCEEDED_BY_DECISION, COMPLETED,
)  # fmt: skip

# Why an attempt ended, in addition to the reasons above.

DEADLINE_EXCEEDED: Final = Reason("DeadlineExceeded", "The attempt exceeded its deadline")
NON_ZERO_EXIT_CODE: Final = Reason("NonZeroExitCode", "A container exited with a code other than 0")
NOT_STARTED: Final = Reason("NotStarted", "No node accepted the pod within `pendingSeconds`")
NODE_LOST: Final = Reason("NodeLost", "The node was lost and did not report how the attempt ended")
NOT_REPORTED: Final = Reason(
    "NotReported", "The death of the attempt was confirmed, and no node reported how the attempt ended"
)
POD_DELETED: Final = Reason("PodDeleted", "The pod was deleted before its containers had ended")
JOB_DELETED: Final = Reason(
    "JobDeleted", "The Job was deleted, not by asyncflow, before the outcome was known"
)
TASK_ENDED: Final = Reason("TaskEnded", "The attempt was stopped because its task had finished")
FENCED: Final = Reason(
    "Fenced", "The attempt is proven dead without a report of its node; `proofDetail` has the evidence"
)

# Transient states, and conditions that are no longer True.

STOPPING: Final = Reason("Stopping", "The attempt is being stopped")
RESOLVED: Final = Reason("Resolved", "The cause of the condition no longer exists")
RETRY_NOW: Final = Reason("RetryNow", "A new run was requested (annotation `asyncflow.dev/retry-now`)")

# Conditions of a TaskType.

JOB_ACCEPTED: Final = Reason("JobAccepted", "Ready: the API server accepts the Job of the type")
JOB_MUTATED: Final = Reason(
    "JobMutated",
    "Not Ready: an admission webhook or policy changes a field of the Job on which a guarantee depends",
    "Exempt Jobs with the label that the message names",
)
STAGES_NOT_SUPPORTED: Final = Reason(
    "StagesNotSupported", "Not Ready: `spec.stages` is not supported yet", "Use `spec.template`"
)
ACTIVE: Final = Reason("Active", "Not Suspended")
SUSPENDED_BY_USER: Final = Reason("SuspendedByUser", "Suspended: `spec.suspend` is true", "Set it to false")
ERROR_POLICY: Final = Reason(
    "ErrorPolicy",
    "Suspended: a limit of `errorPolicy` is reached",
    "Fix the cause of the failures, then run the command in the message",
)
CONCURRENCY_LIMIT_REACHED: Final = Reason(
    "ConcurrencyLimitReached", "Throttled: tasks wait for a slot (`maxConcurrent`)"
)
BELOW_CONCURRENCY_LIMIT: Final = Reason("BelowConcurrencyLimit", "Not Throttled: no task waits for a slot")
BUDGET_EXHAUSTED: Final = Reason(
    "BudgetExhausted", "RetryBudgetExhausted: retries wait for a token (`retry.budget`)"
)
BUDGET_AVAILABLE: Final = Reason("BudgetAvailable", "Not RetryBudgetExhausted: no retry waits for a token")

# Events without a condition.

ANNOTATION_IGNORED: Final = Reason(
    "AnnotationIgnored",
    "A decision or a confirmation has no effect: it cannot be parsed, or it names another uid; the message "
    "has the cause",
    "Annotate the task with the command in the message of its condition",
)

DUPLICATE_ATTEMPT: Final = Reason(
    "DuplicateAttempt", "A Job repeats an attempt whose end is on record; it is stopped"
)
REPLACED_UNSAFE: Final = Reason(
    "ReplacedUnsafe", "An attempt was replaced without proof of death (`onNodeLost: ReplaceUnsafe`)"
)
RETRY_REFUSED: Final = Reason(
    "RetryRefused",
    "A new run of a cancelled task was requested; a cancelled task stays cancelled",
    "Create another task",
)
RESUMED: Final = Reason("Resumed", "A user resumed the type (annotation `asyncflow.dev/resume`)")
