"""The operator: cluster state, leader election, startup and shutdown."""

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
"""Seconds between checks whether a resync is due."""

START_PAUSE = 2.0
"""Seconds between attempts to list resources at the start."""


class Operator:
    """The cluster state, which is always kept up to date, and the leader term while this operator leads."""

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
        self._pods += [
            Reflector(self.client, self.sources.unbound_pods, namespace) for namespace in self._namespaces
        ]
        self._listed_at = -math.inf
        self._synced_at = -math.inf
        self._missed_at_sync = 0
        self._term: LeaderTerm | None = None
        self._failure: str | None = None
        self._stopping = False

    # Health

    def alive(self) -> str | None:
        """Return why the operator must be restarted; None if it is healthy."""
        return self._failure or (self._term.failure if self._term is not None else None)

    def ready(self) -> str | None:
        """Return why neither this operator nor the one that it stands by for is ready; None if one is."""
        if self._term is not None or self.elector.standing_by:
            return None
        return "waiting for the initial sync" if self.elector.leading else "waiting for the leader Lease"

    # Leadership

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Lead or stand by until the block ends; then finish what is in flight and release the Lease."""
        leading = asyncio.create_task(self._lead_and_stand_by(), name="leadership")
        following = [reflector.follow() for reflector in (*self._jobs, *self._pods)]
        reading = [asyncio.create_task(self._guard(work)) for work in (self._resync_when_due(), *following)]
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
        """Sync and run a leader term, until the leadership is lost."""
        keeping = asyncio.create_task(self.elector.keep(), name="renew leader Lease")
        working = asyncio.create_task(self._run_term(), name="leader term")
        try:
            await asyncio.wait({keeping, working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        if working.done() and not working.cancelled() and (error := working.exception()) is not None:
            raise error

    async def _run_term(self) -> None:
        term = await self.take_over()
        logger.info("leading: %d tasks, %d Jobs", len(self.state.tasks), len(self.state.jobs))
        try:
            async with term.running() as tasks:
                try:
                    await asyncio.Event().wait()
                finally:
                    if self._stopping:
                        logger.info("stopping: finishing in-flight work")
                        await term.finish(tasks, self.settings.stop_seconds)
        finally:
            self.end_term()

    async def take_over(self) -> LeaderTerm:
        """List all resources, whatever the state of the standby was, and begin a leader term."""
        await self._sync_until_done()
        self._term = LeaderTerm(self.client, self.state, self.settings, self._clock)
        self._term.begin()
        return self._term

    def end_term(self) -> None:
        """Stand by from now on: changes are stored and not reconciled."""
        self._term = None

    # Sync

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._failure = f"watch loop failed, restart required: {error!r}"
            logger.exception("watch loop failed, restart required")

    async def _resync_when_due(self) -> None:
        """List all resources periodically; soon, if changes were missed or a request was not answered."""
        while True:
            await asyncio.sleep(min(self.settings.resync_seconds, RESYNC_CHECK))
            due = time.monotonic() >= self._synced_at + self.settings.resync_seconds
            listed = self._listed_at >= self._synced_at
            if not (due or listed) and self._missed == self._missed_at_sync:
                continue
            try:
                await self._sync()
            except (ApiError, ApiUnreachable) as error:
                logger.warning("failed to list resources, retrying: %s", error)

    def listed(self) -> None:
        """Record that kopf has listed a resource: a resync is due.

        kopf does not report objects that were deleted between the last resync and its list.
        """
        self._listed_at = time.monotonic()

    async def until_served(self) -> None:
        """Wait until the API server serves asyncflow's resources: kopf looks for them only once."""
        while True:
            try:
                missing = {TASKS.plural, TYPES.plural} - await self.client.served(names.GROUP, names.VERSION)
                if not missing:
                    return
                logger.warning("API server does not serve %s%s", " and ".join(sorted(missing)), INSTALL_CRDS)
            except (ApiError, ApiUnreachable) as error:
                logger.warning("failed to discover API resources, retrying: %s%s", error, _advice(error))
            await asyncio.sleep(START_PAUSE)

    @property
    def _missed(self) -> int:
        """How often changes may have been missed: watches that were relisted, requests without an answer."""
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
        """Compare the cluster state with full lists, to correct what watches missed, especially deletions."""
        self._synced_at, self._missed_at_sync = time.monotonic(), self._missed
        try:
            sources = self.sources
            read = {
                "types": await self._read(sources.tasktypes),
                "tasks": await self._read(sources.asynctasks),
                "jobs": _merged([await jobs.read() for jobs in self._jobs]),
                "locks": await self._read(sources.leases),
            }
            for pods in self._pods:
                await pods.read()  # last: pods of unknown tasks and Jobs are not stored
        except BaseException:
            self._synced_at = -math.inf  # incomplete: the resync is still due
            raise
        dropped = self.state.retain(**read)
        if dropped:
            logger.info("resync dropped %d objects deleted while the watch was down", dropped)

    async def _read(self, source: Source) -> tuple[set[str], int]:
        """Read all objects of a resource; return their uids and the resource version of the list."""
        return _merged([await source.read(self.client, namespace) for namespace in self._namespaces])

    # Changes

    def _task_changed(self, uid: str) -> None:
        if self._term is not None:
            self._term.task_changed(uid)

    def _type_changed(self, key: TypeKey, affects_tasks: bool) -> None:
        if self._term is not None:
            self._term.type_changed(key, affects_tasks)

    def _lock_changed(self, lock: LockId) -> None:
        if self._term is not None:
            self._term.lock_changed(lock)


INSTALL_CRDS = ". Are the CRDs installed? kubectl apply -f crds/"


def _merged(parts: list[tuple[set[str], int]]) -> tuple[set[str], int]:
    """Merge the lists of several namespaces; the result has the lowest of their versions."""
    return set[str]().union(*(uids for uids, _ in parts)), min(version for _, version in parts)


def _advice(error: ApiError | ApiUnreachable) -> str:
    if isinstance(error, ApiError) and error.not_found:
        return INSTALL_CRDS
    if isinstance(error, ApiError) and error.status in (401, 403):
        return ". Is the operator's ClusterRole bound to its ServiceAccount? See deploy/operator.yaml"
    return ""
