"""The reconciler of task types: the only one who writes a type's status.

Each generation is tried as a dry run of its Job; retries are granted; failures may suspend the type. What the
governors ask for from time to time is added to it: counts, shards, and the deletion of ended tasks.
"""

import logging
from collections import defaultdict
from datetime import datetime, timedelta
from enum import StrEnum

from asyncflow.api import names, reasons
from asyncflow.api.asynctask import AsyncTask, AsyncTaskSpec
from asyncflow.api.meta import ObjectMeta, is_true, merge_patch
from asyncflow.api.tasktype import READY, TaskType, TaskTypeStatus
from asyncflow.controller.context import Context
from asyncflow.controller.garbage_collector import Deletion
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.attempt.manifest import altered, attempt_job
from asyncflow.core.attempt.settings import effective_settings
from asyncflow.core.lifecycle.interventions import retry_now
from asyncflow.core.scheduling.admission import TypeKey
from asyncflow.core.scheduling.retry_budget import withdraw
from asyncflow.core.tasktype import error_policy
from asyncflow.core.tasktype.counts import with_counts
from asyncflow.core.tasktype.readiness import needs_dry_run, with_dry_run_result
from asyncflow.core.tasktype.retention import removable
from asyncflow.core.tasktype.shards import FIRST, roll, split
from asyncflow.kube.client import JOBS, TASKS, TYPES, ApiError
from asyncflow.kube.queue import Requeue

logger = logging.getLogger(__name__)

TRY_AGAIN_AFTER = timedelta(seconds=30)
"""How often a rejected type is tried again: what spoke against it may go without a change of the type."""

DRY_RUN_UID = "00000000-0000-0000-0000-000000000000"


class Due(StrEnum):
    """What a governor asks for."""

    SPLIT = "split"
    """Open the next shard, if the last one is full."""
    ROLL = "roll"
    """Count, retire shards whose tasks have ended, and remove ended tasks whose time has come."""


class TypeReconciler:
    """Says of each type whether it can work and how far its tasks are, and keeps its retry budget.

    Args:
        context: what the parts of the term share.
        deletions: how many tasks are handed to the garbage collector at once, at most.
    """

    def __init__(self, context: Context, *, deletions: int = 100) -> None:
        self._client = context.client
        self._state = context.state
        self._recorder = context.recorder
        self._admission = context.admission
        self._garbage_collector = context.garbage_collector
        self._queue = context.types
        self._tasks = context.tasks
        self._clock = context.clock
        self._deletions = deletions
        self._due: defaultdict[TypeKey, set[Due]] = defaultdict(set)
        self._tried: dict[TypeKey, datetime] = {}

    def ask(self, key: TypeKey, due: Due) -> None:
        """Have something done for a type."""
        self._due[key].add(due)
        self._queue.add("/".join(key))

    async def reconcile(self, key: TypeKey) -> None:
        """Do for a type what is due now, with one write of its status at most."""
        due = self._due.pop(key, set())
        census = self._state.census(key)
        task_type = self._state.task_type(key)
        if task_type is None or task_type.metadata.deletion_timestamp is not None:
            return
        now = self._clock()
        status, rejection, wakes = task_type.status, None, []
        if needs_dry_run(task_type) and now >= self._next_dry_run(task_type, now):
            rejection = await self._rejection(task_type)
            status = with_dry_run_result(task_type, rejection, now)
            self._tried[key] = now
        if not is_true(status.conditions, READY):
            wakes.append(self._tried[key] + TRY_AGAIN_AFTER)
        status = status.model_copy(update={"shards": status.shards or FIRST})
        status = error_policy.evaluate(task_type, status, census, now)
        tokens = self._admission.tokens(key)
        withdrawal = withdraw(task_type, status, tokens, now)
        if withdrawal.look_again is not None:
            wakes.append(withdrawal.look_again)
        self._queue.add_at("/".join(key), min(wakes, default=None))
        status = self._governed(task_type, withdrawal.status, due, now)
        if status != task_type.status:
            paid_in = tokens.first_attempts
            await self._write_status(task_type, status)
            if status.retry_budget != task_type.status.retry_budget:
                tokens.first_attempts -= paid_in
            self._tell(task_type, status, rejection)
        for uid in self._admission.take_out(key, withdrawal.taken):
            self._tasks.add(uid)
        for uid in tokens.untold():
            self._tasks.add(uid)
        if Due.ROLL in due:
            self._delete_finished(task_type, now)

    def _next_dry_run(self, task_type: TaskType, now: datetime) -> datetime:
        """Return when a type is tried next: a generation that was rejected, not before a while has passed."""
        tried = self._tried.get((task_type.metadata.namespace, task_type.metadata.name))
        if tried is None or task_type.status.observed_generation != task_type.metadata.generation:
            return now
        return tried + TRY_AGAIN_AFTER

    # What the governors ask for

    def _governed(
        self, task_type: TaskType, status: TaskTypeStatus, due: set[Due], now: datetime
    ) -> TaskTypeStatus:
        key = task_type.metadata.namespace, task_type.metadata.name
        census, shards = self._state.census(key), status.shards or FIRST
        if Due.SPLIT in due:
            shards = split(shards, census, task_type.spec.max_tasks_per_shard)
        if Due.ROLL in due:
            shards = roll(shards, census)
            waiting = self._admission.slots(key)
            status = with_counts(status, census, waiting.waiting, waiting.waiting_since(), now)
        return status.model_copy(update={"shards": shards})

    def _is_free(self, uid: str) -> bool:
        """Tell whether nothing depends on an ended task any more."""
        task = self._state.tasks.get(uid)
        if task is None or task.metadata.deletion_timestamp is not None or retry_now(task) is not None:
            return False
        return not self._state.jobs_of(uid) and not self._state.locks_of(uid)

    def _delete_finished(self, task_type: TaskType, now: datetime) -> None:
        """Have those tasks deleted whose retention is over, each in the version that was looked at."""
        census = self._state.census((task_type.metadata.namespace, task_type.metadata.name))
        for uid in removable(task_type, census, now, most=self._deletions, free=self._is_free):
            if (task := self._state.tasks.get(uid)) is not None:
                meta = task.metadata
                self._garbage_collector.add(
                    Deletion(TASKS, meta.namespace, meta.name, uid, meta.resource_version)
                )

    # Telling

    def _tell(self, task_type: TaskType, status: TaskTypeStatus, rejection: tuple[str, str] | None) -> None:
        """Tell people what they would want to know."""
        key = f"{task_type.metadata.namespace}/{task_type.metadata.name}"
        if rejection is not None:
            self._recorder.post(names.TYPE_KIND, task_type.metadata, *rejection, warning=True)
            logger.warning("TaskType %s is not Ready: %s", key, rejection[1])
        before, after = task_type.status.errors, status.errors
        occasion = str(after.resume_time)
        if after.suspended and not before.suspended:
            logger.warning("TaskType %s has suspended itself: %s", key, after.suspended)
            self._recorder.post(
                names.TYPE_KIND,
                task_type.metadata,
                reasons.ERROR_POLICY,
                after.suspended,
                warning=True,
                occasion=occasion,
            )
        if before.suspended and not after.suspended:
            logger.info("TaskType %s was resumed", key)
            message = f"resumed by a person: {after.resumed}"
            self._recorder.post(
                names.TYPE_KIND,
                task_type.metadata,
                reasons.RESUMED,
                message,
                warning=False,
                occasion=occasion,
            )

    async def _write_status(self, task_type: TaskType, status: TaskTypeStatus) -> None:
        meta = task_type.metadata
        patch = merge_patch(task_type.status.to_api(), status.to_api())
        body = {"metadata": {"resourceVersion": meta.resource_version}, "status": patch}
        try:
            written = await self._client.patch(TYPES, meta.namespace, meta.name, body, subresource="status")
        except ApiError as error:
            if error.conflict or error.not_found:
                raise Requeue(f"TaskType {meta.namespace}/{meta.name} has changed meanwhile") from error
            raise
        self._state.put_type(written)

    async def _rejection(self, task_type: TaskType) -> tuple[str, str] | None:
        """Return the reason and what the API server says against the type's Job; None if it takes it."""
        meta = task_type.metadata
        task = AsyncTask(
            metadata=ObjectMeta(name=f"{meta.name[:40]}-dry-run", namespace=meta.namespace, uid=DRY_RUN_UID),
            spec=AsyncTaskSpec(task_type_name=meta.name),
        )
        settings = effective_settings(task, task_type)
        if settings is None:
            return reasons.STAGES_NOT_SUPPORTED, "spec.stages is not supported yet: set spec.template"
        job = attempt_job(task, settings, AttemptId(run=1, stage=0, number=1), now=self._clock())
        try:
            made = await self._client.create(JOBS, meta.namespace, job, dry_run=True)
        except ApiError as error:
            if error.status in (400, 422):
                return reasons.JOB_REJECTED, error.message
            if error.already_exists or error.status == 403:
                return None  # not the template's fault; a task that meets it says so
            raise
        changed = altered(job, made)
        return (reasons.JOB_MUTATED, changed) if changed else None
