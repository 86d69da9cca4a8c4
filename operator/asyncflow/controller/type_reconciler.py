"""The reconciler of task types: the only one who writes a type's status.

Each generation is tried as a dry run of its Job; retries are granted; failures may suspend the type. What the
governors ask for from time to time is added to it: counts, shards, and the removal of ended tasks.
"""

import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, AsyncTaskSpec
from asyncflow.api.meta import ObjectMeta, is_true, merge_patch
from asyncflow.api.tasktype import READY, TaskType, TaskTypeStatus
from asyncflow.controller.cluster_state import Store
from asyncflow.controller.garbage_collector import Removal, Sweeper
from asyncflow.core import errors
from asyncflow.core.accounts import with_counts
from asyncflow.core.admission import Admission, TypeKey
from asyncflow.core.budget import withdraw
from asyncflow.core.job import altered, attempt_job
from asyncflow.core.requests import retry_now
from asyncflow.core.retention import remaining, removable, removed
from asyncflow.core.rules import rules_for
from asyncflow.core.shards import FIRST, roll, split
from asyncflow.core.validate import judged, needs_trial
from asyncflow.kube.alarms import Alarms
from asyncflow.kube.client import JOBS, TASKS, TYPES, ApiClient, ApiError
from asyncflow.kube.queue import TryAgain
from asyncflow.kube.recorder import EventRecorder

logger = logging.getLogger(__name__)

TRY_AGAIN_AFTER = timedelta(seconds=30)
"""How often a rejected type is tried again: what spoke against it may go without a change of the type."""

TRIAL_UID = "00000000-0000-0000-0000-000000000000"


class Due(StrEnum):
    """What a governor asks for."""

    SPLIT = "split"
    """Open the next shard, if the last one is full."""
    ROLL = "roll"
    """Count, retire shards whose tasks have ended, and remove ended tasks whose time has come."""


class TypeReconciler:
    """Tells of each type whether it can work and how far its tasks are, and keeps its retry budget.

    Args:
        client: the way to the API server.
        store: what is known of the cluster.
        recorder: where events are posted.
        alarms: where a type waits for its moment.
        admission: who may start.
        sweeper: who deletes what has to go.
        enqueue_task: has a task looked at.
        clock: the time.
        removals: how many tasks may be on their way out at once.
    """

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        recorder: EventRecorder,
        alarms: Alarms,
        admission: Admission,
        sweeper: Sweeper,
        enqueue_task: Callable[[str], None],
        clock: Callable[[], datetime],
        *,
        removals: int = 100,
    ) -> None:
        self._client = client
        self._store = store
        self._recorder = recorder
        self._alarms = alarms
        self._admission = admission
        self._sweeper = sweeper
        self._enqueue_task = enqueue_task
        self._clock = clock
        self._removals = removals
        self._due: defaultdict[TypeKey, set[Due]] = defaultdict(set)
        self._tried: dict[TypeKey, datetime] = {}

    def ask(self, key: TypeKey, due: Due) -> None:
        """Have something done when the type is looked at next."""
        self._due[key].add(due)

    async def reconcile(self, key: TypeKey) -> None:
        """Do for a type what is due now, with one write of its status at most."""
        due = self._due.pop(key, set())
        census = self._store.census(key)
        if Due.ROLL in due and census.holds:
            await self._read_again(key)
        kind = self._store.kind(key)
        if kind is None or kind.metadata.deletion_timestamp is not None:
            return
        now = self._clock()
        status, rejection, wakes = kind.status, None, []
        if needs_trial(kind) and now >= self._next_trial(kind, now):
            rejection = await self._rejection(kind)
            status = judged(kind, rejection, now)
            self._tried[key] = now
        if not is_true(status.conditions, READY):
            wakes.append(self._tried[key] + TRY_AGAIN_AFTER)
        status = status.model_copy(update={"shards": status.shards or FIRST})
        status = errors.account(kind, status, census, now)
        tokens = self._admission.tokens(key)
        withdrawal = withdraw(kind, status, tokens, now)
        if withdrawal.look_again is not None:
            wakes.append(withdrawal.look_again)
        self._alarms.set("/".join(key), min(wakes, default=None))
        status = self._governed(kind, withdrawal.status, due, now)
        if status != kind.status:
            paid_in = tokens.first_attempts
            await self._write_status(kind, status)
            if status.retry_budget != kind.status.retry_budget:
                tokens.first_attempts -= paid_in
            self._tell(kind, status, rejection)
        for uid in self._admission.take_out(key, withdrawal.taken):
            self._enqueue_task(uid)
        for uid in tokens.untold():
            self._enqueue_task(uid)
        if Due.ROLL in due:
            self._sweep(key)

    def _next_trial(self, kind: TaskType, now: datetime) -> datetime:
        """Return when a type is tried next: a generation that was rejected, not before a while has passed."""
        tried = self._tried.get((kind.metadata.namespace, kind.metadata.name))
        if tried is None or kind.status.observed_generation != kind.metadata.generation:
            return now
        return tried + TRY_AGAIN_AFTER

    # What the governors ask for

    async def _read_again(self, key: TypeKey) -> None:
        """Find out what became of a write that put tasks on record as removed and was not answered."""
        try:
            self._store.put_type(await self._client.get(TYPES, *key))
        except ApiError as error:
            if not error.not_found:
                raise
        kind = self._store.kind(key)
        for uid in self._store.census(key).remove(kind.status.removed.removing if kind else ()):
            self._enqueue_task(uid)

    def _governed(
        self, kind: TaskType, status: TaskTypeStatus, due: set[Due], now: datetime
    ) -> TaskTypeStatus:
        key = kind.metadata.namespace, kind.metadata.name
        census, shards = self._store.census(key), status.shards or FIRST
        if Due.SPLIT in due:
            shards = split(shards, census, kind.spec.max_tasks_per_shard)
        if Due.ROLL in due:
            shards = roll(shards, census)
            waiting = self._admission.slots(key)
            status = with_counts(kind, status, census, waiting.waiting, waiting.waiting_since(), now)
            going = removable(kind, census, now, most=self._removals, free=self._is_free)
            census.hold(going)
            if going or status.removed.removing:
                status = removed(status, census, going)
        return status.model_copy(update={"shards": shards})

    def _is_free(self, uid: str) -> bool:
        """Tell whether nothing depends on an ended task any more."""
        task = self._store.tasks.get(uid)
        if task is None or task.metadata.deletion_timestamp is not None or retry_now(task) is not None:
            return False
        return not self._store.jobs_of(uid) and not self._store.locks_of(uid)

    def _sweep(self, key: TypeKey) -> None:
        """Have those deleted that are on record as removed."""
        kind = self._store.kind(key)
        for uid in remaining(kind.status, self._store.census(key)) if kind is not None else ():
            task = self._store.tasks.get(uid)
            if task is None:
                continue
            meta = task.metadata
            if task.status.phase.terminal and meta.deletion_timestamp is None:
                self._sweeper.add(Removal(TASKS, meta.namespace, meta.name, uid, meta.resource_version))

    # Telling

    def _tell(self, kind: TaskType, status: TaskTypeStatus, rejection: tuple[str, str] | None) -> None:
        """Tell people what they would want to know."""
        key = f"{kind.metadata.namespace}/{kind.metadata.name}"
        if rejection is not None:
            self._recorder.post(names.TYPE_KIND, kind.metadata, *rejection, warning=True)
            logger.warning("TaskType %s is not ready: %s", key, rejection[1])
        before, after = kind.status.errors, status.errors
        occasion = str(after.resume_time)
        if after.suspended and not before.suspended:
            logger.warning("TaskType %s has suspended itself: %s", key, after.suspended)
            self._recorder.post(
                names.TYPE_KIND,
                kind.metadata,
                errors.BY_POLICY,
                after.suspended,
                warning=True,
                occasion=occasion,
            )
        if before.suspended and not after.suspended:
            logger.info("TaskType %s was resumed", key)
            message = f"resumed by a person: {after.resumed}"
            self._recorder.post(
                names.TYPE_KIND, kind.metadata, "Resumed", message, warning=False, occasion=occasion
            )

    async def _write_status(self, kind: TaskType, status: TaskTypeStatus) -> None:
        meta = kind.metadata
        patch = merge_patch(kind.status.to_api(), status.to_api())
        body = {"metadata": {"resourceVersion": meta.resource_version}, "status": patch}
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
