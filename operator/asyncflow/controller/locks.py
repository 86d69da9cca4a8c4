"""Locks: acquired before a Job is created, released when its attempt is proven dead."""

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
    """The Leases that serve as locks.

    A lock is acquired by creating its Lease and released by deleting it; each is a compare-and-swap.

    The fencing token is the resource version that the API server assigns to the Lease when it is created: it
    only increases, also from one Lease to the next (resource versions are comparable: KEP-5504).
    """

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._state = context.state
        self._clock = context.clock

    async def acquire(self, task: AsyncTask, start: StartAttempt) -> tuple[LockView, bool]:
        """Acquire the lock for an attempt that is about to start, or return the one that it holds already.

        Returns:
            The lock, and whether no Lease was known for it before.

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
            created = await self._client.create(LEASES, namespace, body)
        except ApiError as error:
            if not error.already_exists:
                raise
            try:
                created = await self._client.get(LEASES, namespace, name)
            except ApiError as get_error:
                if get_error.not_found:
                    raise Requeue(f"lock {name} was released meanwhile") from get_error
                raise
        self._state.put_lock(created)
        held = self._state.lock((namespace, name))
        if held is None:
            raise Requeue(f"Lease {name} is not a lock of asyncflow, or is being deleted")
        return held

    async def release(self, lock: ReleaseLock) -> None:
        """Release a lock, on the condition that its Lease has not changed since the decision.

        Raises:
            Requeue: the Lease has changed.
        """
        try:
            await self._client.delete(
                LEASES, lock.namespace, lock.name, uid=lock.uid, version=lock.resource_version
            )
        except ApiError as error:
            if error.conflict:
                raise Requeue(f"Lease {lock.name} has changed since the decision") from error
            if not error.not_found:
                raise
        self._state.drop_lock(lock.uid)

    async def release_of_deleted(self, task_uid: str) -> None:
        """Release the locks of a deleted task whose attempts are proven dead by their Jobs or pods."""
        jobs, pods = self._state.jobs_of(task_uid), self._state.pods_of(task_uid)
        gone = frozenset(job.uid for job in jobs if self._state.gone(job.uid))
        for lock in self._state.locks_of(task_uid):
            if free_after_deletion(lock, jobs, pods, gone):
                logger.info("releasing lock %s: its task was deleted and the attempt is dead", lock.name)
                await self.release(release(lock))
