"""Names that are part of the API: group, labels, annotations, environment variables.

A label is what the API server selects by; an annotation is what only people and the operator read.
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
OURS: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY},{TASK_UID_LABEL}"
"""The label selector of every Job and pod that belongs to an attempt."""

SETTINGS_ANNOTATION: Final = f"{GROUP}/settings"
"""On a Job: the settings that its attempt was made with, as JSON: run, stage, attemptSeconds, graceSeconds,
marginSeconds, pendingSeconds. One annotation for all: the API server keeps account of each in each object."""
LEASE_ANNOTATION: Final = f"{GROUP}/lease"
"""On a Job: its attempt's lease, as JSON: holder, token, acquired, expires."""
STOP_REASON_ANNOTATION: Final = f"{GROUP}/stop-reason"
"""Set on a Job together with the deadline that stops it: why its attempt was ended from outside."""

CONFIRMED_DEAD_ANNOTATION: Final = f"{GROUP}/confirmed-dead"
"""On a task: an administrator confirms that an attempt's processes are dead: its pod's uid, then a note."""
DECISION_ANNOTATION: Final = f"{GROUP}/decision"
"""On a task that asks: ``retry``, ``fail`` or ``succeed``, the uid of the attempt's Job, then a note."""
RETRY_NOW_ANNOTATION: Final = f"{GROUP}/retry-now"
"""On a task: any text that was not there before asks for the next attempt, or the next run, at once."""

RESUME_ANNOTATION: Final = f"{GROUP}/resume"
"""On a type that has suspended itself: any text that was not there before resumes it."""

LOCK_KEY_ANNOTATION: Final = f"{GROUP}/lock-key"
LOCK_LABEL: Final = f"{GROUP}/lock"
"""On a Lease: it is the lock of a lockKey."""
LOCKS: Final = f"{MANAGED_BY_LABEL}={MANAGED_BY},{LOCK_LABEL}"
"""The label selector of every lock."""

OUT_OF_SERVICE_TAINT: Final = "node.kubernetes.io/out-of-service"
"""Put on a node by an administrator: it is shut down and will not come back by itself (KEP-2268)."""

STOP_MESSAGE_ANNOTATION: Final = f"{GROUP}/stop-message"
NEVER_BOUND_ANNOTATION: Final = f"{GROUP}/never-bound"
"""Set on a Job once its pod has been deleted while no node had it."""

ENV_PREFIX: Final = "ASYNCFLOW_"

TASK_NAME_MAX: Final = 52
"""A Job's name is ``task-stage-attempt`` and must fit a label (63): two digits of stage, seven of attempt."""
