"""Locks: taken before a Job is made, freed when its attempt is proven dead."""

import logging

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask
from asyncflow.api.meta import format_time
from asyncflow.controller.context import Context
from asyncflow.core.attempt.naming import lock_name
from asyncflow.core.lifecycle.actions import ReleaseLock, StartAttempt
from asyncflow.core.lifecycle.lock_fate import free_after_deletion, release
from asyncflow.core.views.lease import LockView
from asyncflow.kube.client import LEASES, ApiError, Body
from asyncflow.kube.queue import Requeue

logger = logging.getLogger(__name__)


class Locks:
    """The Leases that are locks. Taking one is its creation, freeing it its deletion: both compare and swap.

    The fencing token is the version that the API server gives the Lease when it is made: it only grows, also
    from one Lease to the next (resource versions are comparable: KEP-5504).
    """

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._state = context.state
        self._clock = context.clock

    async def take(self, task: AsyncTask, start: StartAttempt) -> tuple[LockView, bool]:
        """Take the lock of an attempt that is about to start, or go on with it; tell whether it is new.

        Raises:
            Requeue: another attempt holds it.
        """
        assert start.lock_key is not None
        namespace, name = task.metadata.namespace, lock_name(start.lock_key)
        holder = start.attempt.holder(task.metadata.uid)
        held = self._state.lock((namespace, name))
        new = held is None
        if held is None:
            held = await self._create(task, start.lock_key, name, holder)
        if held.holder != holder:
            raise Requeue(f"lock {name} is held by {held.holder}")
        return held, new

    async def _create(self, task: AsyncTask, lock_key: str, name: str, holder: str) -> LockView:
        namespace = task.metadata.namespace
        body: Body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {
                    names.MANAGED_BY_LABEL: names.MANAGED_BY,
                    names.LOCK_LABEL: "true",
                    names.TASK_NAME_LABEL: task.metadata.name,
                },
                "annotations": {names.LOCK_KEY_ANNOTATION: lock_key},
            },
            "spec": {
                "holderIdentity": holder,
                "acquireTime": format_time(self._clock()).replace("Z", ".000000Z"),
            },
        }
        try:
            made = await self._client.create(LEASES, namespace, body)
        except ApiError as error:
            if not error.already_exists:
                raise
            try:
                made = await self._client.get(LEASES, namespace, name)
            except ApiError as gone:
                if gone.not_found:
                    raise Requeue(f"lock {name} was freed just now") from gone
                raise
        self._state.put_lock(made)
        held = self._state.lock((namespace, name))
        if held is None:
            raise Requeue(f"Lease {name} is not a lock of ours, or is being deleted")
        return held

    async def free(self, lock: ReleaseLock) -> None:
        """Free a lock, if it is still the one that was seen."""
        try:
            await self._client.delete(
                LEASES, lock.namespace, lock.name, uid=lock.uid, version=lock.resource_version
            )
        except ApiError as error:
            if error.conflict:
                raise Requeue(f"Lease {lock.name} has changed meanwhile") from error
            if not error.not_found:
                raise
        self._state.drop_lock(lock.uid)

    async def free_of_deleted(self, task_uid: str) -> None:
        """Free the locks of a task that was deleted, where its Job or pod is evidence of the end."""
        jobs, pods = self._state.jobs_of(task_uid), self._state.pods_of(task_uid)
        gone = frozenset(job.uid for job in jobs if self._state.gone(job.uid))
        for lock in self._state.locks_of(task_uid):
            if free_after_deletion(lock, jobs, pods, gone):
                logger.info(
                    "released lock %s: the task of its holder was deleted, and the attempt is dead", lock.name
                )
                await self.free(release(lock))
