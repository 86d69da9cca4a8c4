"""The reconciler of AsyncTasks: takes a snapshot, calls `decide`, and carries the decision out."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, AsyncTaskStatus, Phase
from asyncflow.api.meta import merge_patch
from asyncflow.controller.context import Context
from asyncflow.controller.garbage_collector import Deletion
from asyncflow.controller.locks import Locks
from asyncflow.controller.missing_pods import Explainer
from asyncflow.controller.pod_reader import PodReader
from asyncflow.controller.starting import Starter
from asyncflow.controller.stopping import Stopper
from asyncflow.core.lifecycle.actions import (
    Action,
    CloseJob,
    Decision,
    DeleteJob,
    ExplainJob,
    FindPod,
    PostEvent,
    ReadPods,
    StartAttempt,
    StopJob,
)
from asyncflow.core.lifecycle.blocker import Blocker
from asyncflow.core.lifecycle.decide import decide
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.lifecycle.starting import Refused, Unknown, pause_before_retry
from asyncflow.core.scheduling.admission import Claim, Gate, TypeKey
from asyncflow.core.scheduling.priority_queue import rank
from asyncflow.kube.client import JOBS, TASKS, ApiError
from asyncflow.kube.queue import Requeue

logger = logging.getLogger(__name__)

MESSAGE_MAX = 1024
"""Limit for a message of the API server, in characters; the rest is cut off."""


class TaskReconciler:
    """Reconciles AsyncTasks, one decision at a time.

    Args:
        context: the dependencies that the parts of the term share.
        find_pods: requests a check of the running attempts of a type.
    """

    def __init__(self, context: Context, find_pods: Callable[[TypeKey], None]) -> None:
        self._client = context.client
        self._state = context.state
        self._admission = context.admission
        self._recorder = context.recorder
        self._garbage_collector = context.garbage_collector
        self._queue = context.tasks
        self._types = context.types
        self._clock = context.clock
        self._find_pods = find_pods
        self._locks = Locks(context)
        self._explainer = Explainer(context.client, context.clock)
        self._starter = Starter(context, self._locks)
        self._pod_reader = PodReader(context.client, context.state, context.clock)
        self._stopper = Stopper(context.client, context.state)
        self._start_time = context.clock()
        self._last_creates: dict[str, datetime] = {}
        """By task with a lockKey: when a create request was last sent."""
        self._blockers: dict[str, Blocker] = {}
        self._refusals: dict[str, int] = {}

    async def reconcile(self, uid: str) -> None:
        """Do for a task what is due now.

        Raises:
            Requeue: the decision is out of date, or the result of a start is unknown.
            ApiUnreachable, ApiError: a request failed.
        """
        self._clear_blocker(uid)
        snapshot = self._snapshot(uid)
        if snapshot is None:
            self._wake(self._admission.stop_expecting(uid))
            await self._pod_reader.read_of_deleted(uid)
            await self._locks.release_of_deleted(uid)
            self._forget(uid)
            return
        task = snapshot.task
        if snapshot.suspended_itself:  # until it is resumed, even if a task succeeds meanwhile
            self._state.census(task.type_key).suspension = snapshot.suspended_itself
        try:
            decision = self._decide(snapshot)
        finally:
            self._wake(self._admission.mark_evaluated(task.type_key, uid))
        if decision.release is not None:
            await self._locks.release(decision.release)
            self._queue.add(uid)  # its Job was kept for the lock
        if decision.start is not None and self._admission.holds_slot(uid):
            await self._start(task, decision.start)
            return  # the watch event of the Job wakes the task
        if decision.start is not None and snapshot.gate is not Gate.BUDGET and self._waits_for_token(task):
            return  # the reconciler of the type withdraws tokens, or wakes the tasks that get none
        if decision.status is not None:
            await self._write_status(task, decision.status)
        if not decision.live and decision.start is None:
            self._wake(self._admission.leave(uid, task.type_key, self._state.lock_id(task)))
        for action in decision.actions:
            await self._perform(task, action)
        self._queue.add_at(uid, decision.wake)

    def _snapshot(self, uid: str) -> Snapshot | None:
        gate = self._admission.gate(uid)
        last_create = self._last_creates.get(uid, self._start_time)
        return self._state.snapshot(uid, self._blockers.get(uid), gate, last_create)

    # Admission

    def _decide(self, snapshot: Snapshot) -> Decision:
        """Decide, and claim what the decision needs; again if the claim shows what the task waits for.

        A task that no longer needs its slot releases it only after that is recorded: its end may be the
        failure after which no other attempt is started.
        """
        task, now = snapshot.task, self._clock()
        uid, lock = task.metadata.uid, self._state.lock_id(task)
        decision = decide(snapshot, now)
        if decision.live:
            self._wake(self._admission.occupy(uid, task.type_key, lock))
        elif (start := decision.start) is not None:
            task_rank = rank(start.priority, start.since, task.metadata.name, uid)
            claim = Claim(task.type_key, task_rank, start.takes_token, lock)
            self._wake(other for other in self._admission.offer(uid, claim) if other != uid)
            gate = self._admission.gate(uid)
            if gate is not snapshot.gate and gate is not Gate.BUDGET:
                return decide(replace(snapshot, gate=gate), now)
        return decision

    def _waits_for_token(self, task: AsyncTask) -> bool:
        """Return whether a retry waits for a token; if so, queue its type, to withdraw tokens."""
        if self._admission.gate(task.metadata.uid) is not Gate.BUDGET:
            return False
        self._types.add("/".join(task.type_key))
        return True

    def _wake(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self._queue.add(uid)

    def _forget(self, uid: str) -> None:
        """Forget a deleted task; its slot is released once its Jobs have finished or are deleted."""
        self._queue.add_at(uid, None)
        self._blockers.pop(uid, None)
        self._refusals.pop(uid, None)
        self._last_creates.pop(uid, None)
        if any(not (job.finished or self._state.gone(job.uid)) for job in self._state.jobs_of(uid)):
            return  # its processes may still run
        self._wake(self._admission.forget(uid))

    # Starting

    async def _start(self, task: AsyncTask, start: StartAttempt) -> None:
        uid = task.metadata.uid
        self._admission.begin(uid)
        if start.lock_key is not None:
            self._last_creates[uid] = self._clock()
        result = await self._starter.start(task, start)
        if isinstance(result, Unknown):
            number = start.attempt.number
            logger.warning(
                "unknown whether attempt %d of %s was started, retrying: %s",
                number,
                task.key,
                result.message,
                extra=_fields(task, number),
            )
            raise Requeue(result.message)  # it keeps its slot
        if isinstance(result, Refused):
            self._block(task, result.reason, result.message)
            self._wake(self._admission.leave(uid))
            self._queue.add(uid)
            return
        self._blockers.pop(uid, None)
        self._refusals.pop(uid, None)
        if start.first:
            self._admission.tokens(task.type_key).first_attempts += 1
        self._wake(self._admission.occupy(uid, task.type_key, self._state.lock_id(task)))
        logger.debug(
            "attempt %d of %s started",
            start.attempt.number,
            task.key,
            extra=_fields(task, start.attempt.number),
        )
        if not self._state.put_job(result.job):
            self._queue.add(uid)

    def _clear_blocker(self, uid: str) -> None:
        """Remove the blocker of a Job that has a pod now, has finished, or was deleted."""
        blocker = self._blockers.get(uid)
        if blocker is None or not blocker.job_uid:
            return
        job = self._state.jobs.get(blocker.job_uid)
        if job is None or job.has_pod or job.finished:
            del self._blockers[uid]
            self._refusals.pop(uid, None)

    def _block(self, task: AsyncTask, reason: str, message: str, job_uid: str = "") -> None:
        """Record what blocks a task or its Job, and until when it is not retried."""
        uid = task.metadata.uid
        refusals = self._refusals.get(uid, 0)
        self._refusals[uid] = refusals + 1
        self._blockers[uid] = Blocker(
            reason, message[:MESSAGE_MAX], until=self._clock() + pause_before_retry(refusals), job_uid=job_uid
        )
        logger.warning("attempt of %s blocked: %s: %s", task.key, reason, message, extra=_fields(task))

    # Writing

    async def _write_status(self, task: AsyncTask, status: AsyncTaskStatus) -> None:
        """Write a status, on the condition that the task has not changed since the decision.

        Raises:
            Requeue: the task has changed or was deleted.
        """
        patch = merge_patch(task.status.to_api(), status.to_api())
        body = {"metadata": {"resourceVersion": task.metadata.resource_version}, "status": patch}
        if status.shard is not None:
            self._state.census(task.type_key).assign(task.metadata.uid, status.shard)
        try:
            written = await self._client.patch(
                TASKS, task.metadata.namespace, task.metadata.name, body, subresource="status"
            )
        except ApiError as error:
            if error.conflict or error.not_found:
                raise Requeue(f"{task.key} has changed since the decision") from error
            raise
        if status.phase is not task.status.phase:
            logger.info(
                "%s is %s%s",
                task.key,
                status.phase,
                f": {status.reason}" if status.reason else "",
                extra=_fields(task),
            )
        self._state.put_task(written)
        if status.phase is Phase.FAILED:
            self._types.add("/".join(task.type_key))  # this failure may suspend the type

    async def _perform(self, task: AsyncTask, action: Action) -> None:
        namespace, uid = task.metadata.namespace, task.metadata.uid
        match action:
            case StopJob():
                await self._stopper.stop(task, action)
            case CloseJob():
                await self._stopper.close(task, action)
            case DeleteJob():
                self._garbage_collector.add(Deletion(JOBS, namespace, action.name, action.uid))
            case ReadPods():
                await self._pod_reader.read(namespace, uid, action.job_name, action.job_uid)
            case FindPod():
                self._find_pods(task.type_key)
            case ExplainJob():
                self._block(task, *await self._explainer.explain(namespace, action.job_uid), action.job_uid)
                self._queue.add(uid)
            case PostEvent():
                self._recorder.post(
                    names.TASK_KIND, task.metadata, action.reason, action.message, warning=action.warning
                )


def _fields(task: AsyncTask, attempt: int | None = None) -> dict[str, Any]:
    return {
        "namespace": task.metadata.namespace,
        "task": task.metadata.name,
        "attempt": attempt or task.status.attempt,
    }
