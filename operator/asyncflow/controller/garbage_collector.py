"""Deletion of what is not needed any more: in the background, one object at a time, at a bounded rate."""

import asyncio
import logging
from dataclasses import dataclass

from asyncflow.controller.cluster_state import ClusterState
from asyncflow.kube.client import JOBS, ApiClient, ApiError, ApiUnreachable, NotLeading, Resource

logger = logging.getLogger(__name__)

PAUSE_AFTER_ERROR = 5.0
"""Seconds without deletions after an error of the API server."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object to delete, if it is still as it was when that was decided."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    version: str | None = None
    """Delete it in this version only."""


class GarbageCollector:
    """Deletes Jobs that have served their time, and tasks that retention has put on record as removed.

    Nothing is lost with what it has still to do: whoever asked for it asks again.

    Args:
        client: the way to the API server.
        state: what is known of the cluster; it learns of each deletion.
        per_second: how many objects are deleted in a second, at most.
    """

    def __init__(self, client: ApiClient, state: ClusterState, *, per_second: float) -> None:
        self._client = client
        self._state = state
        self._pause = 1 / per_second
        self._due: dict[str, Deletion] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    def add(self, deletion: Deletion) -> None:
        """Have an object deleted, in its turn."""
        self._due[deletion.uid] = deletion
        self._some.set()

    async def run(self) -> None:
        """Delete until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            if not self._due:
                self._some.clear()
                await self._some.wait()
            began = clock()
            try:
                await self.delete_one()
            except (ApiError, ApiUnreachable, NotLeading) as error:
                logger.warning("failed to delete an object, retrying: %s", error)
                await asyncio.sleep(PAUSE_AFTER_ERROR)
            await asyncio.sleep(max(0.0, began + self._pause - clock()))

    async def delete_one(self) -> None:
        """Delete the object that has waited longest; one that has changed meanwhile is left as it is.

        Raises:
            ApiError, ApiUnreachable, NotLeading: it was not deleted, or nobody knows; it is tried again.
        """
        uid, deletion = next(iter(self._due.items()))
        self._due[uid] = self._due.pop(uid)  # behind the others: what can't be deleted does not hold them up
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
            self._state.drop_task(uid)  # else its deletion is on its way, unless a finalizer keeps it
