"""All reasons of conditions, statuses, attempts and events, with what each means and what to do.

The tables in ``docs/reference/reasons.md`` are generated from here (`asyncflow.cli.reference`).
"""

from typing import Final, Self

NOTHING = "nothing"
NO_PROOF_PAGE = "see [No proof of death](../operations/waiting-tasks.md#no-proof-of-death)"


class Reason(str):
    """A reason as the API has it, one CamelCase word, with its documentation."""

    meaning: str
    remedy: str
    __slots__ = ("meaning", "remedy")

    def __new__(cls, name: str, meaning: str, remedy: str = NOTHING) -> Self:
        """Make a reason."""
        made = super().__new__(cls, name)
        made.meaning = meaning
        made.remedy = remedy
        return made

    def __getnewargs__(self) -> tuple[str, str, str]:  # type: ignore[override]
        """Return what a copy is made with."""
        return str(self), self.meaning, self.remedy


# Why a task waits: condition Waiting, and the column REASON.

BACK_OFF: Final = Reason("BackOff", "the pause before the next attempt; column RETRY has its end")
SNOOZED: Final = Reason("Snoozed", "the attempt asked to be repeated later (`retry.snooze`)")
NOT_BEFORE: Final = Reason("NotBefore", "`spec.notBefore` is in the future")
SUSPENDED: Final = Reason("Suspended", "`spec.suspend` is set on the task", "unset it")
TASK_TYPE_SUSPENDED: Final = Reason(
    "TaskTypeSuspended",
    "`spec.suspend` is set on the TaskType, or the type has suspended itself (`errorPolicy`)",
    "unset it, or resume the type: its condition `Suspended` has the command",
)
UNKNOWN_TASK_TYPE: Final = Reason(
    "UnknownTaskType", "the namespace has no TaskType of that name", "create it, or delete the task"
)
TASK_TYPE_NOT_READY: Final = Reason(
    "TaskTypeNotReady",
    "the API server rejects the Job of the type; the message is its own",
    "correct the type's template",
)
QUOTA_EXCEEDED: Final = Reason(
    "QuotaExceeded",
    "a ResourceQuota of Jobs or of pods is exhausted",
    "raise it, or wait: the start is retried after 5 s, later every minute",
)
FORBIDDEN: Final = Reason(
    "Forbidden", "an admission rule refuses the task's Job; the message is its own", "correct what it names"
)
JOB_REJECTED: Final = Reason(
    "JobRejected", "the API server rejects the Job; the message is its own", "correct what it names"
)
API_SERVER_ERROR: Final = Reason(
    "ApiServerError",
    "the API server or a webhook fails; the message is its own",
    "repair it: the start is retried",
)
JOB_NAME_CONFLICT: Final = Reason(
    "JobNameConflict",
    "a Job that is not asyncflow's has the name that the next attempt needs",
    "delete that Job, or create the task under another name",
)
PREVIOUS_JOB_TERMINATING: Final = Reason(
    "PreviousJobTerminating",
    "an earlier task of this name was deleted, and its processes have not ended yet",
)
LOCK_HELD: Final = Reason(
    "LockHeld", "another attempt holds the task's `lockKey`; the Lease that the message names shows which"
)
LOCK_ORPHANED: Final = Reason(
    "LockOrphaned",
    "the holder of the lock no longer exists, and nothing proves that its processes are dead",
    "once you know that they are, run the command in the message",
)
RETRY_BUDGET_EXHAUSTED: Final = Reason(
    "RetryBudgetExhausted",
    "the tasks of the type have used up their common retries for now (`retry.budget`)",
    "nothing, or raise the budget",
)
POD_NOT_CREATED: Final = Reason(
    "PodNotCreated",
    "the Job controller cannot create the pod; the message is its own",
    "see the events of the Job",
)
JOB_CONTROLLER_BACKLOG: Final = Reason(
    "JobControllerBacklog",
    "a Job has had no pod for a minute, and no event says why; it is charged to no budget",
    "nothing; if it lasts, check kube-controller-manager",
)
UNSCHEDULABLE: Final = Reason(
    "Unschedulable",
    "no node accepts the pod; the message is the scheduler's",
    "add capacity; the attempt ends as `NotStarted` after `pendingSeconds`",
)
IMAGE_PULL_BACK_OFF: Final = Reason(
    "ImagePullBackOff",
    "the node cannot pull the image; other reasons of the kubelet, such as `CreateContainerConfigError`, "
    "are shown the same way",
    "correct it; the attempt ends at its deadline",
)

CONTAINER_CREATING: Final = Reason(
    "ContainerCreating",
    "the deadline of the attempt has passed while its node pulls the image or mounts volumes, which cannot "
    "be interrupted; a container that starts afterwards is stopped at once",
)
JOB_SUSPENDED: Final = Reason(
    "JobSuspended",
    "the Job is suspended by another controller, such as Kueue, or by a user",
    "admit the workload in that controller, or set `spec.suspend` of the Job to `false`",
)

# Conditions Stuck, DecisionRequired and Invalid.

NO_PROOF_OF_DEATH: Final = Reason(
    "NoProofOfDeath",
    "an attempt should have ended, and its node does not report it",
    NO_PROOF_PAGE,
)
LEASE_EXPIRED: Final = Reason(
    "LeaseExpired",
    "the lease of the attempt has expired, and its node does not report its end",
    NO_PROOF_PAGE,
)
JOB_OVERDUE: Final = Reason("JobOverdue", "a Job has outlived its deadline", "check kube-controller-manager")
DECISION_REQUIRED: Final = Reason(
    "DecisionRequired",
    "the type asks for a decision about what comes after such an attempt",
    "run the command in the message",
)
CONFLICTING_SETTINGS: Final = Reason(
    "ConflictingSettings",
    "the settings of the task and of its type together would break a guarantee; the message says which",
    "change one of them",
)

WAITING_REASONS: Final = (
    BACK_OFF, NOT_BEFORE, SUSPENDED, TASK_TYPE_SUSPENDED, UNKNOWN_TASK_TYPE, TASK_TYPE_NOT_READY,
    QUOTA_EXCEEDED, FORBIDDEN, JOB_REJECTED, API_SERVER_ERROR, JOB_NAME_CONFLICT, PREVIOUS_JOB_TERMINATING,
    POD_NOT_CREATED, JOB_CONTROLLER_BACKLOG, UNSCHEDULABLE, IMAGE_PULL_BACK_OFF, SNOOZED, LOCK_HELD,
    RETRY_BUDGET_EXHAUSTED, CONFLICTING_SETTINGS, DECISION_REQUIRED, LOCK_ORPHANED, NO_PROOF_OF_DEATH,
    LEASE_EXPIRED, JOB_OVERDUE, CONTAINER_CREATING, JOB_SUSPENDED,
)  # fmt: skip
"""In the order of the table "Why does a task wait?"."""

# Why a task has finished: conditions Complete, Failed and Cancelled.

COMPLETED: Final = Reason("Completed", "the last attempt succeeded")
SUCCEEDED_BY_DECISION: Final = Reason("SucceededByDecision", "a person decided so")
CANCELLED: Final = Reason("Cancelled", "`spec.cancel` was set")
MAX_RETRIES_EXCEEDED: Final = Reason("MaxRetriesExceeded", "more attempts failed than `maxRetries` allows")
MAX_TIMEOUTS_EXCEEDED: Final = Reason(
    "MaxTimeoutsExceeded", "more attempts timed out than `maxTimeouts` allows"
)
MAX_DISRUPTIONS_EXCEEDED: Final = Reason(
    "MaxDisruptionsExceeded", "more attempts were disrupted than `maxDisruptions` allows"
)
NON_RETRIABLE_EXIT_CODE: Final = Reason(
    "NonRetriableExitCode", "the exit code is one of `nonRetriableExitCodes`"
)
DISRUPTED: Final = Reason("Disrupted", "an attempt was disrupted, and `onDisruption` is `Fail`")
OUTCOME_UNKNOWN: Final = Reason(
    "OutcomeUnknown", "nobody knows how an attempt ended, and `onUnknownOutcome` is `Fail`"
)
FAILED_BY_DECISION: Final = Reason("FailedByDecision", "a person decided so")
TOTAL_DEADLINE_EXCEEDED: Final = Reason(
    "TotalDeadlineExceeded", "the run did not end within `deadlines.totalSeconds`"
)
PAYLOAD_TOO_LARGE: Final = Reason("PayloadTooLarge", "the payload has more than 32 KiB")

FINISHED_REASONS: Final = (
    MAX_RETRIES_EXCEEDED, MAX_TIMEOUTS_EXCEEDED, MAX_DISRUPTIONS_EXCEEDED, NON_RETRIABLE_EXIT_CODE, DISRUPTED,
    OUTCOME_UNKNOWN, FAILED_BY_DECISION, TOTAL_DEADLINE_EXCEEDED, PAYLOAD_TOO_LARGE, CANCELLED,
    SUCCEEDED_BY_DECISION, COMPLETED,
)  # fmt: skip

# Why an attempt ended, beside those above.

DEADLINE_EXCEEDED: Final = Reason("DeadlineExceeded", "the attempt ran into its deadline")
NON_ZERO_EXIT_CODE: Final = Reason("NonZeroExitCode", "a container ended with another exit code than 0")
NOT_STARTED: Final = Reason("NotStarted", "no node accepted the pod within `pendingSeconds`")
NODE_LOST: Final = Reason("NodeLost", "the node was lost, and nobody knows how the attempt ended")
NOT_REPORTED: Final = Reason(
    "NotReported", "the death of the attempt was proven from outside, and nobody knows how it ended"
)
POD_DELETED: Final = Reason("PodDeleted", "the pod was deleted before its containers had ended")
JOB_DELETED: Final = Reason("JobDeleted", "the Job was deleted by somebody else")
TASK_ENDED: Final = Reason("TaskEnded", "the task had finished while the attempt still ran")
FENCED: Final = Reason("Fenced", "the death of the attempt was proven from outside: see `proofDetail`")

# Conditions and phases in passing.

STOPPING: Final = Reason("Stopping", "the attempt is being stopped")
RESOLVED: Final = Reason("Resolved", "what the condition is about no longer holds")
RETRY_NOW: Final = Reason("RetryNow", "a new run was asked for")

# Conditions of a TaskType.

JOB_ACCEPTED: Final = Reason("JobAccepted", "Ready: the API server accepts the Job of the type")
JOB_MUTATED: Final = Reason(
    "JobMutated",
    "not Ready: an admission webhook or policy changes a field of the Job on which a guarantee depends",
    "exempt Jobs with the label that the message names",
)
STAGES_NOT_SUPPORTED: Final = Reason("StagesNotSupported", "not Ready: `spec.stages` is not supported yet")
ACTIVE: Final = Reason("Active", "not Suspended")
SUSPENDED_BY_USER: Final = Reason("SuspendedByUser", "Suspended: `spec.suspend` is set")
ERROR_POLICY: Final = Reason(
    "ErrorPolicy", "Suspended: too many tasks failed", "run the command in the message"
)
CONCURRENCY_LIMIT_REACHED: Final = Reason(
    "ConcurrencyLimitReached", "Throttled: tasks wait for a slot (`maxConcurrent`)"
)
BELOW_CONCURRENCY_LIMIT: Final = Reason("BelowConcurrencyLimit", "not Throttled: no task waits for a slot")
BUDGET_EXHAUSTED: Final = Reason(
    "BudgetExhausted", "RetryBudgetExhausted: retries wait for a token (`retry.budget`)"
)
BUDGET_AVAILABLE: Final = Reason("BudgetAvailable", "not RetryBudgetExhausted: no retry waits for a token")

# Events that are not a condition's.

ANNOTATION_IGNORED: Final = Reason(
    "AnnotationIgnored",
    "a decision or a confirmation has no effect: it cannot be parsed, or it names another uid; the message "
    "has the cause",
    "annotate the task with the command that the message of its condition has",
)

DUPLICATE_ATTEMPT: Final = Reason(
    "DuplicateAttempt", "a Job repeats an attempt whose end is recorded; it is stopped"
)
REPLACED_UNSAFE: Final = Reason(
    "ReplacedUnsafe", "an attempt was replaced without proof of death (`onNodeLost: ReplaceUnsafe`)"
)
RETRY_REFUSED: Final = Reason("RetryRefused", "a cancelled task stays cancelled")
RESUMED: Final = Reason("Resumed", "a person has resumed the type")
