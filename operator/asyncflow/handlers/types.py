"""The reconciler of task types: each generation is tried as a dry run of its Job; retries are granted."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, AsyncTaskSpec
from asyncflow.api.meta import ObjectMeta
from asyncflow.api.tasktype import TaskType, TaskTypeStatus
from asyncflow.core.admission import Admission, TypeKey
from asyncflow.core.budget import withdraw
from asyncflow.core.job import altered, attempt_job
from asyncflow.core.rules import rules_for
from asyncflow.core.validate import judged, needs_trial
from asyncflow.kube.alarms import Alarms
from asyncflow.kube.client import JOBS, TYPES, ApiClient, ApiError
from asyncflow.kube.queue import TryAgain
from asyncflow.kube.recorder import EventRecorder
from asyncflow.kube.store import Store

logger = logging.getLogger(__name__)

TRY_AGAIN_AFTER = timedelta(seconds=30)
"""How often a rejected type is tried again: what spoke against it may go without a change of the type."""

TRIAL_UID = "00000000-0000-0000-0000-000000000000"


class TypeReconciler:
    """Tells of each type whether it can work, and keeps its retry budget."""

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        recorder: EventRecorder,
        alarms: Alarms,
        admission: Admission,
        enqueue_task: Callable[[str], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._store = store
        self._recorder = recorder
        self._alarms = alarms
        self._admission = admission
        self._enqueue_task = enqueue_task
        self._clock = clock

    async def reconcile(self, key: TypeKey) -> None:
        """Try the type's Job if this generation has not been tried, and grant the retries that wait."""
        kind = self._store.kind(key)
        if kind is None or kind.metadata.deletion_timestamp is not None:
            return
        now = self._clock()
        status, rejection, wakes = kind.status, None, []
        if needs_trial(kind):
            rejection = await self._rejection(kind)
            status = judged(kind, rejection, now)
            if rejection is not None:
                wakes.append(now + TRY_AGAIN_AFTER)
        tokens = self._admission.tokens(key)
        withdrawal = withdraw(kind, status, tokens, now)
        if withdrawal.look_again is not None:
            wakes.append(withdrawal.look_again)
        self._alarms.set("/".join(key), min(wakes, default=None))
        if withdrawal.status != kind.status:
            paid_in = tokens.first_attempts
            await self._write_status(kind, withdrawal.status)
            if withdrawal.status.retry_budget != kind.status.retry_budget:
                tokens.first_attempts -= paid_in
            if rejection is not None:
                self._recorder.post(names.TYPE_KIND, kind.metadata, *rejection, warning=True)
                logger.warning("TaskType %s/%s is not ready: %s", *key, rejection[1])
        for uid in self._admission.take_out(key, withdrawal.taken):
            self._enqueue_task(uid)
        for uid in tokens.untold():
            self._enqueue_task(uid)

    async def _write_status(self, kind: TaskType, status: TaskTypeStatus) -> None:
        meta = kind.metadata
        body = {"metadata": {"resourceVersion": meta.resource_version}, "status": status.to_api()}
        try:
            written = await self._client.patch(TYPES, meta.namespace, meta.name, body, subresource="status")
        except ApiError as error:
            if error.conflict or error.not_found:
                raise TryAgain(f"TaskType {meta.namespace}/{meta.name} has changed meanwhile") from error
            raise
        self._store.put_type(written)

    async def _rejection(self, kind: TaskType) -> tuple[str, str] | None:
        """Return the reason and what the API server says against the type's Job; None if it takes it."""
        meta = kind.metadata
        task = AsyncTask(
            metadata=ObjectMeta(name=f"{meta.name[:40]}-trial", namespace=meta.namespace, uid=TRIAL_UID),
            spec=AsyncTaskSpec(task_type_name=meta.name),
        )
        rules = rules_for(task, kind)
        if rules is None:
            return "StagesNotSupported", "spec.stages is not in force yet: set spec.template"
        job = attempt_job(task, rules, attempt=1, run=1, now=self._clock())
        try:
            made = await self._client.create(JOBS, meta.namespace, job, dry_run=True)
        except ApiError as error:
            if error.status in (400, 422):
                return "JobRejected", error.message
            if error.already_exists or error.status == 403:
                return None  # not the template's fault; a task that meets it says so
            raise
        changed = altered(job, made)
        return ("JobAltered", changed) if changed else None
