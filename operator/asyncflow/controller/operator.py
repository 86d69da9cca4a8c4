"""The operator as a whole: its state, its leadership, its start and its stop."""

import asyncio
import logging
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

from asyncflow.api import names
from asyncflow.controller.clock import utc_now
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.leader_term import LeaderTerm
from asyncflow.controller.sources import Sources
from asyncflow.core.scheduling.admission import LockId, TypeKey
from asyncflow.kube.client import TASKS, TYPES, ApiClient, ApiError, ApiUnreachable
from asyncflow.kube.connection import Connection
from asyncflow.kube.elector import Elector
from asyncflow.kube.reflector import Reflector
from asyncflow.kube.source import Source
from asyncflow.settings import Settings

logger = logging.getLogger(__name__)

RESYNC_CHECK = 5.0
"""Seconds between looks whether requests were left unanswered."""

START_PAUSE = 2.0
"""Seconds between tries to read the cluster when the work begins."""


class Operator:
    """The state, which is kept warm at all times, and the work, which is done while this operator leads."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        client: ApiClient | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._clock = clock
        self.connection = connection
        self.settings = settings
        self.state = ClusterState(self._task_changed, self._type_changed, self._lock_changed)
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
        self.client = client or ApiClient(
            connection,
            write_seconds=settings.request_seconds,
            may_write=lambda: self.elector.leading,
        )
        self.sources = Sources.of(self.state)
        self._namespaces: tuple[str | None, ...] = settings.namespaces or (None,)
        self._jobs, self._pods = (
            [Reflector(self.client, source, namespace) for namespace in self._namespaces]
            for source in (self.sources.jobs, self.sources.pods)
        )
        self._list_time = -math.inf
        self._read_time = -math.inf
        self._missed_then = 0
        self._work: LeaderTerm | None = None
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
        """Lead and work, or stand by, until the block ends; then finish what is in flight."""
        leading = asyncio.create_task(self._lead_and_stand_by(), name="leadership")
        following = [reflector.follow() for reflector in (*self._jobs, *self._pods)]
        reading = [asyncio.create_task(self._guard(work)) for work in (self._keep_reading(), *following)]
        try:
            yield
        finally:
            self._stopping = True
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            await self.elector.release()

    async def _lead_and_stand_by(self) -> None:
        try:
            while True:
                await self.elector.acquire()
                await self._lead()
                logger.warning("lost leader Lease, standing by")
        except Exception as error:
            self._failure = f"leader election failed, restart required: {error!r}"
            logger.exception("leader election failed, restart required")

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
        logger.info("leading: %d tasks, %d Jobs", len(self.state.tasks), len(self.state.jobs))
        try:
            async with work.running() as tasks:
                try:
                    await asyncio.Event().wait()
                finally:
                    if self._stopping:
                        logger.info("stopping: finishing in-flight work")
                        await work.finish(tasks, self.settings.stop_seconds)
        finally:
            self.end_term()

    async def take_over(self) -> LeaderTerm:
        """Read the cluster, whatever the store knew before, and take up the work on what is there."""
        await self._sync_until_done()
        self._work = LeaderTerm(self.client, self.state, self.settings, self._clock)
        self._work.begin()
        return self._work

    def end_term(self) -> None:
        """Stand by from now on: nothing that changes is taken up."""
        self._work = None

    # Reading the cluster

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._failure = f"watch loop failed, restart required: {error!r}"
            logger.exception("watch loop failed, restart required")

    async def _keep_reading(self) -> None:
        """List everything from time to time: soon, if changes were missed, or a request had no answer."""
        while True:
            await asyncio.sleep(min(self.settings.resync_seconds, RESYNC_CHECK))
            due = time.monotonic() >= self._read_time + self.settings.resync_seconds
            listed = self._list_time >= self._read_time
            if not (due or listed) and self._missed == self._missed_then:
                continue
            try:
                await self._sync()
            except (ApiError, ApiUnreachable) as error:
                logger.warning("failed to list resources, retrying: %s", error)

    def listed(self) -> None:
        """Note that kopf has listed a resource: another comparison is due.

        What was deleted between the last comparison and that list, kopf does not tell.
        """
        self._list_time = time.monotonic()

    async def until_served(self) -> None:
        """Wait until the API server serves asyncflow's resources: kopf looks for them once."""
        while True:
            try:
                missing = {TASKS.plural, TYPES.plural} - await self.client.served(names.GROUP, names.VERSION)
                if not missing:
                    return
                logger.warning(
                    "the API server does not serve %s%s", " and ".join(sorted(missing)), INSTALL_CRDS
                )
            except (ApiError, ApiUnreachable) as error:
                logger.warning("failed to list resources, retrying: %s%s", error, _advice(error))
            await asyncio.sleep(START_PAUSE)

    @property
    def _missed(self) -> int:
        lost = sum(reflector.lost for reflector in (*self._jobs, *self._pods))
        return lost + self.client.unanswered + self._lease_client.unanswered

    async def _sync_until_done(self) -> None:
        while True:
            try:
                return await self._sync()
            except (ApiError, ApiUnreachable) as error:
                logger.warning("failed to list resources, retrying: %s%s", error, _advice(error))
                await asyncio.sleep(START_PAUSE)

    async def _sync(self) -> None:
        """Compare the store with full lists: what a watch missed is put right, deletions above all."""
        self._read_time, self._missed_then = time.monotonic(), self._missed
        try:
            sources = self.sources
            read = {
                "types": await self._read(sources.tasktypes),
                "tasks": await self._read(sources.asynctasks),
                "jobs": _joined([await jobs.read() for jobs in self._jobs]),
                "locks": await self._read(sources.leases),
            }
            for pods in self._pods:
                await pods.read()  # last: those of tasks and Jobs that are not known are not kept
        except BaseException:
            self._read_time = -math.inf  # cut off: it has still to be done
            raise
        dropped = self.state.retain(**read)
        if dropped:
            logger.info("resync dropped %d objects deleted while the watch was down", dropped)

    async def _read(self, source: Source) -> tuple[set[str], int]:
        """Read all objects of a resource; return their uids and the version of the list."""
        return _joined([await source.read(self.client, namespace) for namespace in self._namespaces])

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


INSTALL_CRDS = ". Are the CRDs installed? kubectl apply -f crds/"


def _joined(parts: list[tuple[set[str], int]]) -> tuple[set[str], int]:
    """Put the lists of several namespaces together."""
    return set[str]().union(*(uids for uids, _ in parts)), min(version for _, version in parts)


def _advice(error: ApiError | ApiUnreachable) -> str:
    if isinstance(error, ApiError) and error.not_found:
        return INSTALL_CRDS
    if isinstance(error, ApiError) and error.status in (401, 403):
        return ". Is the operator's ClusterRole bound to its ServiceAccount? See deploy/operator.yaml"
    return ""
