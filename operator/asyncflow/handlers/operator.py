"""The operator as a whole: its store, its leadership, its start and its stop."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

from asyncflow.api import names
from asyncflow.core.admission import LockId, TypeKey
from asyncflow.handlers.work import Work
from asyncflow.kube.client import (
    JOBS,
    LEASES,
    PODS,
    TASKS,
    TYPES,
    ApiClient,
    ApiError,
    ApiUnreachable,
    Body,
    Resource,
)
from asyncflow.kube.connection import Connection
from asyncflow.kube.elector import Elector
from asyncflow.kube.store import Store
from asyncflow.settings import Settings

logger = logging.getLogger(__name__)

FAILED_PODS = "status.phase=Failed"
UNSUCCESSFUL_PODS = "status.phase!=Succeeded"
"""A pod without Job or record is an attempt all the same."""

RESYNC_CHECK = 5.0
"""Seconds between looks whether requests were left unanswered."""

START_PAUSE = 2.0
"""Seconds between tries to read the cluster when the work begins."""


class Operator:
    """The store, which is kept warm at all times, and the work, which is done while this operator leads."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        self.store = Store(self._task_changed, self._type_changed, self._lock_changed)
        self._lease_client = ApiClient(connection, write_seconds=settings.request_seconds)
        self.elector = Elector(
            self._lease_client,
            namespace=settings.lease_namespace,
            name=settings.lease_name,
            identity=settings.identity or f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}",
            lease_seconds=settings.lease_seconds,
            renew_seconds=settings.renew_seconds,
            request_seconds=settings.request_seconds,
        )
        self.client = ApiClient(
            connection,
            write_seconds=settings.request_seconds,
            may_write=lambda: self.elector.leading,
        )
        self._work: Work | None = None
        self._failure: str | None = None
        self._stopping = False

    # How it fares

    def alive(self) -> str | None:
        """Return what is wrong beyond repair: a part of the operator that has ended."""
        return self._failure or (self._work.failure if self._work is not None else None)

    def ready(self) -> str | None:
        """Return what is missing until work is done, by this operator or by the one that it stands by for."""
        if self._work is not None or self.elector.standing_by:
            return None
        return "reading the cluster" if self.elector.leading else "waiting for the leader's Lease"

    # Its life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Lead and work, or stand by, until the block ends; then finish what is under way."""
        leading = asyncio.create_task(self._lead_and_stand_by(), name="leadership")
        try:
            yield
        finally:
            self._stopping = True
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            await self.elector.give_back()

    async def _lead_and_stand_by(self) -> None:
        try:
            while True:
                await self.elector.acquire()
                await self._lead()
                logger.warning("not leading any more: standing by")
        except Exception as error:
            self._failure = f"leadership ended: {error!r}"
            logger.exception("leadership ended; the operator has to be restarted")

    async def _lead(self) -> None:
        """Read the cluster and work, until the leadership is lost."""
        keeping = asyncio.create_task(self.elector.keep(), name="keep the lease")
        working = asyncio.create_task(self._do_work(), name="work")
        try:
            await asyncio.wait({keeping, working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        if working.done() and not working.cancelled() and (error := working.exception()) is not None:
            raise error

    async def _do_work(self) -> None:
        work = await self.take_over()
        logger.info("leading: %d tasks, %d Jobs", len(self.store.tasks), len(self.store.jobs))
        try:
            async with work.running() as tasks:
                try:
                    await self._resync()
                finally:
                    if self._stopping:
                        logger.info("stopping: no more work is taken up")
                        await work.finish(tasks, self.settings.stop_seconds)
        finally:
            self._work = None

    async def take_over(self) -> Work:
        """Read the cluster, whatever the store knew before, and take up the work on what is there."""
        await self._sync_until_done()
        self._work = Work(self.client, self.store, self.settings)
        self._work.begin()
        return self._work

    async def _resync(self) -> None:
        """Put right what a watch missed, from time to time: soon, if the API server was away."""
        clock = asyncio.get_running_loop().time
        synced, unanswered = clock(), self._unanswered
        while True:
            await asyncio.sleep(min(self.settings.resync_seconds, RESYNC_CHECK))
            if clock() >= synced + self.settings.resync_seconds or self._unanswered > unanswered:
                synced, unanswered = clock(), self._unanswered
                try:
                    await self._sync()
                except (ApiError, ApiUnreachable) as error:
                    logger.warning("resync failed and is tried again: %s", error)

    @property
    def _unanswered(self) -> int:
        return self.client.unanswered + self._lease_client.unanswered

    # Reading the cluster

    async def _sync_until_done(self) -> None:
        while True:
            try:
                return await self._sync()
            except (ApiError, ApiUnreachable) as error:
                logger.warning("the cluster can't be read yet: %s%s", error, _advice(error))
                await asyncio.sleep(START_PAUSE)

    async def _sync(self) -> None:
        """Compare the store with full lists: what a watch missed is put right, deletions above all."""
        types = await self._read(self.store.put_type, TYPES)
        tasks = await self._read(self.store.put_task, TASKS)
        jobs = await self._read(self.store.put_job, JOBS, labels=names.OURS)
        locks = await self._read(self.store.put_lock, LEASES, labels=names.LOCKS)
        await self._read(self.store.put_pod, PODS, labels=names.OURS, fields=UNSUCCESSFUL_PODS)
        dropped = self.store.retain(types=types, tasks=tasks, jobs=jobs, locks=locks)
        if dropped:
            logger.info("resync: %d objects were deleted unseen", dropped)

    async def _read(
        self,
        put: Callable[[Body], object],
        resource: Resource,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> tuple[set[str], int]:
        """Read all objects of a kind into the store; return their uids and the version of the list."""
        uids: set[str] = set()
        versions: list[int] = []
        namespaces: tuple[str | None, ...] = self.settings.namespaces or (None,)
        for namespace in namespaces:
            async for part in self.client.parts(resource, namespace, labels=labels, fields=fields):
                for body in part.items:
                    put(body)
                    uids.add(body["metadata"]["uid"])
            versions.append(int(part.resource_version))
        return uids, min(versions)

    # What has changed

    def _task_changed(self, uid: str) -> None:
        if self._work is not None:
            self._work.task_changed(uid)

    def _type_changed(self, key: TypeKey, concerned: bool) -> None:
        if self._work is not None:
            self._work.type_changed(key, concerned)

    def _lock_changed(self, lock: LockId) -> None:
        if self._work is not None:
            self._work.lock_changed(lock)


def _advice(error: ApiError | ApiUnreachable) -> str:
    if isinstance(error, ApiError) and error.not_found:
        return ". Are the CRDs installed? kubectl apply -f crds/"
    if isinstance(error, ApiError) and error.status in (401, 403):
        return ". Is the operator's ClusterRole bound to its ServiceAccount? See deploy/operator.yaml"
    return ""
