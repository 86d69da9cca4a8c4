"""The reconciler of tasks: takes a snapshot, asks `decide`, and does what it says."""

import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, AsyncTaskStatus
from asyncflow.core import dispatch
from asyncflow.core.actions import (
    Action,
    Decision,
    DeleteJob,
    ExplainJob,
    PostEvent,
    ReadPods,
    StartAttempt,
    StopJob,
)
from asyncflow.core.decide import decide
from asyncflow.core.job import attempt_job
from asyncflow.core.observed import job_view
from asyncflow.core.rules import rules_for
from asyncflow.core.snapshot import Obstacle
from asyncflow.kube.alarms import Alarms
from asyncflow.kube.client import CORE_EVENTS, JOBS, PODS, TASKS, ApiClient, ApiError, Body
from asyncflow.kube.queue import TryAgain
from asyncflow.kube.recorder import EventRecorder
from asyncflow.kube.store import Store, TypeKey

logger = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(seconds=60)
"""How often a start that the API server refused is tried again, at least and at most."""


MESSAGE_MAX = 1024
"""How much is kept of what the API server says."""


def utc_now() -> datetime:
    """Return the moment, with its time zone."""
    return datetime.now(UTC)


class TaskReconciler:
    """Brings tasks forward, one decision at a time.

    Args:
        client: the way to the API server.
        store: what is known of the cluster.
        slots: the slots of each type.
        alarms: where a task waits for its moment.
        recorder: where events are posted.
        enqueue: has a task looked at again.
        clock: the time.
    """

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        slots: defaultdict[TypeKey, dispatch.Slots],
        alarms: Alarms,
        recorder: EventRecorder,
        enqueue: Callable[[str], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._client = client
        self._store = store
        self._slots = slots
        self._alarms = alarms
        self._recorder = recorder
        self._enqueue = enqueue
        self._clock = clock
        self._obstacles: dict[str, Obstacle] = {}
        self._refusals: dict[str, int] = {}

    async def reconcile(self, uid: str) -> None:
        """Do for a task what is due now.

        Raises:
            TryAgain: what was known is out of date; the news is on its way.
            ApiUnreachable, ApiError: the API server did not do its part; ask again.
        """
        self._clear_obstacle(uid)
        snapshot = self._store.snapshot(uid, self._obstacles.get(uid))
        if snapshot is None:
            self._forget(uid)
            return
        task = snapshot.task
        try:
            decision = decide(snapshot, self._clock())
            self._claim(task, decision)
        finally:
            self._wake(self._slots[task.type_key].settle(uid))
        if decision.start is not None and uid in self._slots[task.type_key].granted:
            await self._start(task, decision.start)
            return  # the Job's arrival in the store brings the task back
        if decision.status is not None:
            await self._write_status(task, decision.status)
        for action in decision.actions:
            await self._perform(task, action)
        self._alarms.set(uid, decision.wake)

    # Slots

    def _claim(self, task: AsyncTask, decision: Decision) -> None:
        """Settle the task's claim to a slot."""
        uid = task.metadata.uid
        slots = self._slots[task.type_key]
        if decision.live:
            slots.occupy(uid)
        elif decision.start is None:
            self._wake(slots.leave(uid))
        else:
            start = decision.start
            self._wake(slots.offer(uid, dispatch.rank(start.priority, start.since, task.metadata.name, uid)))

    def _wake(self, uids: list[str]) -> None:
        for uid in uids:
            self._enqueue(uid)

    def _forget(self, uid: str) -> None:
        """Let go of a task that was deleted; its slot is free once its Jobs are over."""
        self._alarms.set(uid, None)
        self._obstacles.pop(uid, None)
        self._refusals.pop(uid, None)
        for slots in self._slots.values():
            self._wake(slots.settle(uid))
        if any(not job.finished for job in self._store.jobs_of(uid)):
            return  # a process of it may still run: its slot is not free
        for slots in self._slots.values():
            self._wake(slots.leave(uid))

    # Starting

    async def _start(self, task: AsyncTask, start: StartAttempt) -> None:
        """Create the attempt's Job: its name is the claim."""
        slots = self._slots[task.type_key]
        kind = self._store.kind(task.type_key)
        rules = rules_for(task, kind) if kind else None
        if rules is None:
            raise TryAgain("the type has changed since the decision")
        uid, namespace = task.metadata.uid, task.metadata.namespace
        job = attempt_job(
            task, rules, attempt=start.number, run=start.run, now=self._clock(), total_left=start.total_left
        )
        name = job["metadata"]["name"]
        try:
            made = await self._client.create(JOBS, namespace, job)
        except ApiError as error:
            found = await self._refusal(task, name, error)
            if isinstance(found, tuple):
                self._hinder(task, *found)
                self._wake(slots.leave(uid))
                self._enqueue(uid)
                return
            made = found
        self._obstacles.pop(uid, None)
        self._refusals.pop(uid, None)
        slots.occupy(uid)
        logger.info("attempt %d of %s started", start.number, task.key, extra=_fields(task, start.number))
        if not self._store.put_job(made):
            self._enqueue(uid)

    async def _refusal(self, task: AsyncTask, name: str, error: ApiError) -> tuple[str, str] | Body:
        """Tell why a Job was not created: reason and sentence. Or return it: it is there, and ours."""
        if error.already_exists:
            return await self._name_conflict(task, name)
        if error.status == 504:
            raise error  # whether it was created is unknown: the slot stays taken, and the name will tell
        if not error.refused:
            return "ApiServerError", str(error)
        if "exceeded quota" in error.message:
            return "QuotaExceeded", error.message
        return ("Forbidden" if error.status == 403 else "JobRejected"), error.message

    async def _name_conflict(self, task: AsyncTask, name: str) -> tuple[str, str] | Body:
        try:
            body = await self._client.get(JOBS, task.metadata.namespace, name)
        except ApiError as error:
            if error.not_found:
                raise TryAgain(f"Job {name} went away just now") from error
            raise
        job = job_view(body)
        if job is None:
            return (
                "NameTaken",
                f"Job {name} exists and is not asyncflow's: delete it, or create the task under another name",
            )
        if job.task_uid != task.metadata.uid or job.deleting:
            return "PreviousJobRemains", f"Job {name} of a former task of this name is not gone yet"
        return body

    def _clear_obstacle(self, uid: str) -> None:
        """Forget what held up a Job that has its pod by now, or is gone."""
        obstacle = self._obstacles.get(uid)
        if obstacle is None or not obstacle.job_uid:
            return
        job = self._store.jobs.get(obstacle.job_uid)
        if job is None or job.has_pod or job.finished:
            del self._obstacles[uid]
            self._refusals.pop(uid, None)

    def _hinder(self, task: AsyncTask, reason: str, message: str, job_uid: str = "") -> None:
        """Remember what keeps a task, or its Job, from going on, and when to try again."""
        uid = task.metadata.uid
        refusals = self._refusals.get(uid, 0)
        self._refusals[uid] = refusals + 1
        pause = min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(refusals, 8))
        self._obstacles[uid] = Obstacle(reason, message[:MESSAGE_MAX], self._clock() + pause, job_uid)
        logger.warning("%s can't start: %s: %s", task.key, reason, message, extra=_fields(task))

    # Writing

    async def _write_status(self, task: AsyncTask, status: AsyncTaskStatus) -> None:
        """Write a status that was decided on this very version of the task."""
        patch = _changed(task.status.to_api(), status.to_api())
        body = {"metadata": {"resourceVersion": task.metadata.resource_version}, "status": patch}
        try:
            written = await self._client.patch(
                TASKS, task.metadata.namespace, task.metadata.name, body, subresource="status"
            )
        except ApiError as error:
            if error.conflict or error.not_found:
                raise TryAgain(f"{task.key} has changed since the decision") from error
            raise
        if status.phase is not task.status.phase:
            logger.info(
                "%s is %s%s",
                task.key,
                status.phase,
                f": {status.reason}" if status.reason else "",
                extra=_fields(task),
            )
        self._store.put_task(written)

    async def _perform(self, task: AsyncTask, action: Action) -> None:
        namespace, uid = task.metadata.namespace, task.metadata.uid
        match action:
            case StopJob():
                await self._stop_job(task, action)
            case DeleteJob():
                await self._delete_job(namespace, action)
            case ReadPods():
                for body in await self._pods(task, action.job_name):
                    self._store.put_pod(body)
                self._store.looked(action.job_uid, uid, self._clock())
            case ExplainJob():
                self._hinder(task, *await self._explain(namespace, action.job_uid), action.job_uid)
                self._enqueue(uid)
            case PostEvent():
                self._recorder.post(
                    names.TASK_KIND, task.metadata, action.reason, action.message, warning=action.warning
                )

    async def _stop_job(self, task: AsyncTask, stop: StopJob) -> None:
        """End an attempt at its node, by the pod's own deadline.

        So its pod stays, as a witness, until its Job is deleted; a pod that the Job controller stops is
        deleted with all that it could tell. Only a Job without a pod on a node is stopped by the Job's
        deadline.
        """
        namespace = task.metadata.namespace
        bound = [pod for pod in await self._pods(task, stop.name) if pod["spec"].get("nodeName")]
        body: Body = {
            "metadata": {"uid": stop.uid, "annotations": {names.STOP_REASON_ANNOTATION: stop.reason}}
        }
        if not bound:
            body["spec"] = {"activeDeadlineSeconds": 1}
        try:
            for pod in bound:
                if pod["status"].get("phase") not in ("Failed", "Succeeded"):
                    at_once = {
                        "metadata": {"uid": pod["metadata"]["uid"]},
                        "spec": {"activeDeadlineSeconds": 1},
                    }
                    await self._client.patch(PODS, namespace, pod["metadata"]["name"], at_once)
            self._store.put_job(await self._client.patch(JOBS, namespace, stop.name, body))
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise

    async def _pods(self, task: AsyncTask, job_name: str) -> list[Body]:
        selector = f"{names.TASK_UID_LABEL}={task.metadata.uid},batch.kubernetes.io/job-name={job_name}"
        return (await self._client.list(PODS, task.metadata.namespace, labels=selector)).items

    async def _delete_job(self, namespace: str, delete: DeleteJob) -> None:
        try:
            await self._client.delete(JOBS, namespace, delete.name, uid=delete.uid)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
        self._store.drop_job(delete.uid)

    async def _explain(self, namespace: str, job_uid: str) -> tuple[str, str]:
        """Find out from a Job's events why it has no pod."""
        fields = f"involvedObject.uid={job_uid},reason=FailedCreate"
        events = (await self._client.list(CORE_EVENTS, namespace, fields=fields)).items
        if not events:
            return "PodNotCreated", "the Job controller has not made the pod yet"
        message = max(events, key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")["message"]
        return ("QuotaExceeded" if "exceeded quota" in message else "PodNotCreated"), message


def _changed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the merge patch from one status to the other: whole values of the fields that differ."""
    patch = {name: value for name, value in new.items() if old.get(name) != value}
    return {**patch, **{name: None for name in old if name not in new}}


def _fields(task: AsyncTask, attempt: int | None = None) -> dict[str, Any]:
    return {
        "namespace": task.metadata.namespace,
        "task": task.metadata.name,
        "attempt": attempt or task.status.attempt,
    }
