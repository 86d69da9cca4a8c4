"""How an attempt is started: its lock, then its Job, whose name is the claim."""

import logging

from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTask
from asyncflow.controller.context import Context
from asyncflow.controller.locks import Locks
from asyncflow.core.attempt.manifest import attempt_job
from asyncflow.core.attempt.settings import effective_settings
from asyncflow.core.lifecycle.actions import StartAttempt
from asyncflow.core.lifecycle.blocker import Blocker
from asyncflow.core.lifecycle.lock_fate import release
from asyncflow.core.lifecycle.starting import REFUSED, refused_start
from asyncflow.core.views.job import execution_of_job
from asyncflow.kube.client import JOBS, ApiError, Body
from asyncflow.kube.queue import Requeue

logger = logging.getLogger(__name__)


class Starter:
    """Starts attempts."""

    def __init__(self, context: Context, locks: Locks) -> None:
        self._client = context.client
        self._state = context.state
        self._clock = context.clock
        self._locks = locks

    async def start(self, task: AsyncTask, start: StartAttempt) -> Body | Blocker:
        """Create the attempt's Job, or return it if it is there and ours, or say what speaks against it.

        Raises:
            Requeue: what was known is out of date.
            ApiUnreachable, ApiError: whether the Job was created is unknown: its name will tell.
        """
        task_type = self._state.task_type(task.type_key)
        settings = effective_settings(task, task_type) if task_type else None
        if settings is None:
            raise Requeue("the type has changed since the decision")
        token, lock, new = None, None, False
        if start.lock_key is not None:
            lock, new = await self._locks.take(task, start)
            token = lock.token
        job = attempt_job(
            task,
            settings,
            start.attempt,
            now=self._clock(),
            total_left=start.total_left,
            token=token,
        )
        try:
            return await self._client.create(JOBS, task.metadata.namespace, job)
        except ApiError as error:
            found = await self._refusal(task, job["metadata"]["name"], error)
            if isinstance(found, Blocker) and error.status in REFUSED and lock is not None and new:
                await self._locks.free(release(lock))  # it was not made, and no other create is in flight
            return found

    async def _refusal(self, task: AsyncTask, name: str, error: ApiError) -> Body | Blocker:
        if error.already_exists:
            return await self._name_conflict(task, name)
        blocker = refused_start(error.status, error.message)
        if blocker is None:
            raise error
        return blocker

    async def _name_conflict(self, task: AsyncTask, name: str) -> Body | Blocker:
        try:
            body = await self._client.get(JOBS, task.metadata.namespace, name)
        except ApiError as error:
            if error.not_found:
                raise Requeue(f"Job {name} went away just now") from error
            raise
        job = execution_of_job(body)
        if job is None:
            return Blocker(
                reasons.JOB_NAME_CONFLICT,
                f"Job {name} exists and is not asyncflow's: delete it, or create the task under another name",
            )
        if job.task_uid != task.metadata.uid or job.deleting:
            return Blocker(
                reasons.PREVIOUS_JOB_TERMINATING, f"Job {name} of an earlier task of this name still exists"
            )
        return body
