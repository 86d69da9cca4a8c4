"""The reconciler of TaskTypes: takes a snapshot, calls `decide_type`, and carries the decision out.

It is the only writer of a TaskType's status.
"""

import logging
from collections import defaultdict
from dataclasses import replace
from datetime import datetime

from asyncflow.api import names, reasons
from asyncflow.api.asynctask import AsyncTask, AsyncTaskSpec, Phase
from asyncflow.api.meta import ObjectMeta, merge_patch
from asyncflow.api.tasktype import TaskType, TaskTypeStatus
from asyncflow.controller.context import Context
from asyncflow.controller.garbage_collector import Deletion
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.attempt.manifest import attempt_job, mutation_message
from asyncflow.core.attempt.settings import effective_settings
from asyncflow.core.scheduling.admission import TypeKey
from asyncflow.core.tasktype.decide import TypeEvent, decide_type
from asyncflow.core.tasktype.retention import cutoffs
from asyncflow.core.tasktype.snapshot import Demand, DryRunResult, Due, FinishedTask, TypeSnapshot
from asyncflow.kube.client import JOBS, TASKS, TYPES, ApiError
from asyncflow.kube.queue import Requeue

logger = logging.getLogger(__name__)

DRY_RUN_UID = "00000000-0000-0000-0000-000000000000"


class TypeReconciler:
    """Reconciles TaskTypes.

    Args:
        context: the dependencies that the parts of the term share.
        deletions: how many tasks one reconciliation passes to the garbage collector, at most.
    """

    def __init__(self, context: Context, *, deletions: int = 100) -> None:
        self._context = context
        self._deletions = deletions
        self._due: defaultdict[TypeKey, set[Due]] = defaultdict(set)
        self._last_dry_run: dict[TypeKey, datetime] = {}

    def request(self, key: TypeKey, due: Due) -> None:
        """Request what a governor finds due for a type."""
        self._due[key].add(due)
        self._context.types.add("/".join(key))

    async def reconcile(self, key: TypeKey) -> None:
        """Do for a type what is due now, with at most one write of its status.

        Raises:
            Requeue: the type has changed since the decision.
            ApiUnreachable, ApiError: a request failed.
        """
        context, now = self._context, self._context.clock()
        due = frozenset(self._due[key])
        snapshot = self._snapshot(key, due, now)
        if snapshot is None:
            self._last_dry_run.pop(key, None)
            self._due.pop(key, None)
            return
        decision = decide_type(snapshot, now, deletions=self._deletions)
        if decision.needs_dry_run:
            result = await self._dry_run(snapshot.task_type)
            self._last_dry_run[key] = now
            current = self._snapshot(key, due, now)
            if current is None or current.task_type.metadata != snapshot.task_type.metadata:
                raise Requeue(f"TaskType {key[0]}/{key[1]} has changed since its dry run")
            snapshot = replace(current, dry_run_result=result)
            decision = decide_type(snapshot, now, deletions=self._deletions)
        if decision.suspension:
            context.state.census(key).suspension = decision.suspension
        tokens = context.admission.tokens(key)
        if decision.status is not None:
            await self._write_status(snapshot.task_type, decision.status)
            if decision.tokens:
                tokens.first_attempts -= snapshot.demand.first_attempts
        self._due[key] -= due
        context.types.add_at("/".join(key), decision.wake)
        for event in decision.events:
            self._post(snapshot.task_type, event)
        for uid in (*context.admission.add_tokens(key, decision.tokens), *tokens.newly_waiting()):
            context.tasks.add(uid)
        for task in decision.delete:
            context.garbage_collector.add(Deletion(TASKS, key[0], task.name, task.uid, task.resource_version))

    # Snapshot

    def _snapshot(self, key: TypeKey, due: frozenset[Due], now: datetime) -> TypeSnapshot | None:
        """Return a snapshot of a type for `decide_type`; None if the type does not exist."""
        state, admission = self._context.state, self._context.admission
        task_type = state.task_type(key)
        if task_type is None:
            return None
        slots, tokens, rolls = admission.slots(key), admission.tokens(key), Due.ROLL in due
        demand = Demand(
            slots=slots.waiting,
            slots_since=slots.waiting_since() if rolls else None,
            tokens=len(tokens.waiting),
            first_attempts=tokens.first_attempts,
        )
        return TypeSnapshot(
            task_type=task_type,
            tally=state.census(key).tally(),
            demand=demand,
            due=due,
            last_dry_run=self._last_dry_run.get(key),
            finished=self._finished(task_type, key, now) if rolls else None,
        )

    def _finished(
        self, task_type: TaskType, key: TypeKey, now: datetime
    ) -> dict[Phase, tuple[FinishedTask, ...]]:
        """Return, by phase, the tasks whose retention has ended and on which nothing depends any more."""
        state = self._context.state
        return {
            phase: tuple(
                FinishedTask(uid, ending[1], ending, str(state.tasks.version(uid)))
                for ending, uid in state.census(key).ended_before(phase, cutoff, 2 * self._deletions)
                if not state.jobs_of(uid) and not state.locks_of(uid)
            )
            for phase, cutoff in cutoffs(task_type.spec.retention, now).items()
        }

    # Requests to the API server

    async def _dry_run(self, task_type: TaskType) -> DryRunResult:
        """Create the type's Job as a dry run (``dryRun=All``), with the payload of an empty task."""
        meta = task_type.metadata
        task = AsyncTask(
            metadata=ObjectMeta(name=f"{meta.name[:40]}-dry-run", namespace=meta.namespace, uid=DRY_RUN_UID),
            spec=AsyncTaskSpec(task_type_name=meta.name),
        )
        settings = effective_settings(task, task_type)
        if settings is None:
            return DryRunResult(
                reasons.STAGES_NOT_SUPPORTED, "spec.stages is not supported yet: set spec.template"
            )
        job = attempt_job(task, settings, AttemptId(run=1, stage=0, number=1), now=self._context.clock())
        try:
            created = await self._context.client.create(JOBS, meta.namespace, job, dry_run=True)
        except ApiError as error:
            if error.status in (400, 422):
                return DryRunResult(reasons.JOB_REJECTED, error.message)
            if error.already_exists or error.status == 403:
                return DryRunResult()  # not caused by the template: the refused tasks report it
            raise
        message = mutation_message(job, created)
        if message:
            return DryRunResult(reasons.JOB_MUTATED, message)
        return DryRunResult(suspended=bool(created["spec"].get("suspend")))

    async def _write_status(self, task_type: TaskType, status: TaskTypeStatus) -> None:
        meta = task_type.metadata
        patch = merge_patch(task_type.status.to_api(), status.to_api())
        body = {"metadata": {"resourceVersion": meta.resource_version}, "status": patch}
        try:
            written = await self._context.client.patch(
                TYPES, meta.namespace, meta.name, body, subresource="status"
            )
        except ApiError as error:
            if error.conflict or error.not_found:
                raise Requeue(
                    f"TaskType {meta.namespace}/{meta.name} has changed since the decision"
                ) from error
            raise
        self._context.state.put_type(written)

    def _post(self, task_type: TaskType, event: TypeEvent) -> None:
        meta = task_type.metadata
        level = logging.WARNING if event.warning else logging.INFO
        logger.log(level, "TaskType %s/%s: %s: %s", meta.namespace, meta.name, event.reason, event.message)
        self._context.recorder.post(
            names.TYPE_KIND, meta, event.reason, event.message, warning=event.warning, occasion=event.occasion
        )
