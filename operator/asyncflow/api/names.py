"""Names that are part of the API: group, labels, annotations, environment variables.

A label is a selector for the API server; an annotation is data for users and the operator.
"""

from typing import Final

GROUP: Final = "asyncflow.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

TASK_KIND: Final = "AsyncTask"
TASK_PLURAL: Final = "asynctasks"
TYPE_KIND: Final = "TaskType"
TYPE_PLURAL: Final = "tasktypes"

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "asyncflow"
TASK_UID_LABEL: Final = f"{GROUP}/task-uid"
TASK_NAME_LABEL: Final = f"{GROUP}/task"
TYPE_LABEL: Final = f"{GROUP}/type"
ATTEMPT_LABEL: Final = f"{GROUP}/attempt"
ATTEMPT_SELECTOR: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY},{TASK_UID_LABEL}"
"""The label selector of the Jobs and pods of attempts."""

SETTINGS_ANNOTATION: Final = f"{GROUP}/settings"
"""On a Job: the settings of its attempt, as JSON: run, stage, attemptSeconds, graceSeconds, marginSeconds,
pendingSeconds. One annotation for all, because each one adds an entry to ``managedFields`` of every Job."""
LEASE_ANNOTATION: Final = f"{GROUP}/lease"
"""On a Job: the lease of its attempt, as JSON: holder, token, acquired, expires."""
STOP_REASON_ANNOTATION: Final = f"{GROUP}/stop-reason"
"""On a Job: why the operator stopped its attempt. Set together with the deadline that stops it."""
STOP_MESSAGE_ANNOTATION: Final = f"{GROUP}/stop-message"
"""On a Job, with the stop reason: what blocked the attempt, such as the message of the scheduler."""
NEVER_BOUND_ANNOTATION: Final = f"{GROUP}/never-bound"
"""On a Job: the uid of its pod, which the operator deleted before it was bound to a node."""

CONFIRMED_DEAD_ANNOTATION: Final = f"{GROUP}/confirmed-dead"
"""On a task: an administrator confirms that an attempt's processes are dead: ``<uid of the pod> [note]``. If
no pod was ever seen, the uid is that of the Job."""
DECISION_ANNOTATION: Final = f"{GROUP}/decision"
"""On a task: a user's decision after an attempt: ``retry|fail|succeed <uid of the Job> [note]``."""
RETRY_NOW_ANNOTATION: Final = f"{GROUP}/retry-now"
"""On a task: a new value requests the next attempt at once or, if the task has finished, a new run."""

RESUME_ANNOTATION: Final = f"{GROUP}/resume"
"""On a TaskType that has suspended itself: a new value resumes it."""

LOCK_KEY_ANNOTATION: Final = f"{GROUP}/lock-key"
"""On a Lease that is a lock: its lockKey."""
LOCK_LABEL: Final = f"{GROUP}/lock"
"""On a Lease: it is the lock of a lockKey."""
LOCK_SELECTOR: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY},{LOCK_LABEL}"
"""The label selector of the Leases that are locks."""

OUT_OF_SERVICE_TAINT: Final = "node.kubernetes.io/out-of-service"
"""On a node: an administrator declares that it is shut down and does not return by itself (KEP-2268)."""

ENV_PREFIX: Final = "ASYNCFLOW_"

TASK_NAME_MAX: Final = 52
"""Maximum length of a task's name. The name of a Job is ``task-stage-attempt`` and must fit into a label
value (63 characters): two digits for the stage, seven for the attempt."""
