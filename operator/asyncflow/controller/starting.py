"""Starts attempts: acquires the lock, then creates the Job, whose name is the claim."""

from dataclasses import dataclass

from asyncflow.api import reasons
from asyncflow.api.asynctask import AsyncTask
from asyncflow.controller.context import Context
from asyncflow.controller.locks import Locks
from asyncflow.core.attempt.manifest import attempt_job
from asyncflow.core.attempt.settings import effective_settings
from asyncflow.core.lifecycle.actions import StartAttempt
from asyncflow.core.lifecycle.lock_fate import release
from asyncflow.core.lifecycle.starting import Refused, Scope, Unknown, read_refusal
from asyncflow.core.views.job import execution_of_job
from asyncflow.kube.client import JOBS, ApiError, ApiUnreachable, Body
from asyncflow.kube.queue import Requeue


@dataclass(frozen=True, slots=True)
class Started:
    """The Job of the attempt exists and belongs to this task."""

    job: Body


class Starter:
    """Starts attempts."""

    def __init__(self, context: Context, locks: Locks) -> None:
        self._client = context.client
        self._state = context.state
        self._clock = context.clock
        self._locks = locks

    async def start(self, task: AsyncTask, start: StartAttempt) -> Started | Refused | Unknown:
        """Create the attempt's Job, unless it exists already.

        Raises:
            Requeue: the decision to start is out of date.
            NotLeading: the request was not sent.
        """
        task_type = self._state.task_type(task.type_key)
        settings = effective_settings(task, task_type) if task_type else None
        if settings is None:
            raise Requeue("the type has changed since the decision")
        token, lock, new = None, None, False
        try:
            if start.lock_key is not None:
                lock, new = await self._locks.acquire(task, start)
                token = lock.token
            job = attempt_job(
                task,
                settings,
                start.attempt,
                now=self._clock(),
                total_left=start.total_left,
                token=token,
            )
            return Started(await self._client.create(JOBS, task.metadata.namespace, job))
        except ApiUnreachable as error:
            return Unknown(str(error))
        except ApiError as error:
            if error.already_exists:
                return await self._existing_job(task, start.attempt.job_name(task.metadata.name))
            result = read_refusal(error.status, error.message)
        if isinstance(result, Refused) and result.final and lock is not None and new:
            await self._locks.release(release(lock))  # no Job was created, and no other create is in flight
        return result

    async def _existing_job(self, task: AsyncTask, name: str) -> Started | Refused | Unknown:
        """Return the Job with this name if it is the attempt's, or else why it blocks the start."""
        try:
            body = await self._client.get(JOBS, task.metadata.namespace, name)
        except ApiUnreachable as error:
            return Unknown(str(error))
        except ApiError as error:
            if error.not_found:
                raise Requeue(f"Job {name} was deleted since the create") from error
            return Unknown(f"{error.status}: {error.message}")
        job = execution_of_job(body)
        if job is None:
            message = (
                f"Job {name} exists and is not managed by asyncflow: "
                "delete it, or create the task under another name"
            )
            return Refused(reasons.JOB_NAME_CONFLICT, message, Scope.TASK, final=False)
        if job.task_uid != task.metadata.uid or job.deleting:
            message = f"Job {name} of an earlier task with this name still exists"
            return Refused(reasons.PREVIOUS_JOB_TERMINATING, message, Scope.TASK, final=False)
        return Started(body)
