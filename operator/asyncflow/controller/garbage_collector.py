"""Deletes objects that are no longer needed: in the background, one at a time, at a bounded rate."""

import asyncio
import logging
from dataclasses import dataclass

from asyncflow.controller.cluster_state import ClusterState
from asyncflow.kube.client import JOBS, ApiClient, ApiError, ApiUnreachable, NotLeading, Resource

logger = logging.getLogger(__name__)

PAUSE_AFTER_ERROR = 5.0
"""Seconds without deletions after a failed one."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object to delete, unless it has changed since that was decided."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    version: str | None = None
    """If set, the object is deleted only in this resource version."""


class GarbageCollector:
    """Deletes finished Jobs, and tasks whose retention has ended.

    Pending deletions are kept in memory only: after a restart, the reconcilers request them again.

    Args:
        client: the API client.
        state: the cluster state, which is updated after a deletion.
        per_second: how many objects are deleted per second, at most.
    """

    def __init__(self, client: ApiClient, state: ClusterState, *, per_second: float) -> None:
        self._client = client
        self._state = state
        self._pause = 1 / per_second
        self._due: dict[str, Deletion] = {}
        self._not_empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, deletion: Deletion) -> None:
        """Queue an object for deletion."""
        self._due[deletion.uid] = deletion
        self._not_empty.set()

    async def run(self) -> None:
        """Delete until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            if not self._due:
                self._not_empty.clear()
                await self._not_empty.wait()
            start = clock()
            try:
                await self.delete_one()
            except (ApiError, ApiUnreachable, NotLeading) as error:
                logger.warning("failed to delete object, retrying: %s", error)
                await asyncio.sleep(PAUSE_AFTER_ERROR)
            await asyncio.sleep(max(0.0, start + self._pause - clock()))

    async def delete_one(self) -> None:
        """Delete the object that has waited longest; one that has changed since is not deleted.

        Raises:
            ApiError, ApiUnreachable, NotLeading: the deletion failed or its result is unknown; it is retried.
        """
        uid, deletion = next(iter(self._due.items()))
        self._due[uid] = self._due.pop(uid)  # to the end: a failing deletion must not block the others
        gone = False
        try:
            await self._client.delete(
                deletion.resource, deletion.namespace, deletion.name, uid=uid, version=deletion.version
            )
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
            gone = error.not_found
        self._due.pop(uid, None)
        if deletion.resource is JOBS:
            self._state.drop_job(uid)
        elif gone:
            self._state.drop_task(uid)  # otherwise the watch reports it, once no finalizer is left
