"""The operator as a whole: its parts, its start, its stop."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from asyncflow.api import names
from asyncflow.core.dispatch import Slots
from asyncflow.handlers.tasks import TaskReconciler, utc_now
from asyncflow.handlers.types import TypeReconciler
from asyncflow.kube.alarms import Alarms
from asyncflow.kube.client import (
    JOBS,
    PODS,
    TASKS,
    TYPES,
    ApiClient,
    ApiError,
    ApiUnreachable,
    Listing,
    Resource,
)
from asyncflow.kube.connection import Connection
from asyncflow.kube.queue import WorkQueue
from asyncflow.kube.recorder import EventRecorder
from asyncflow.kube.store import Store, TypeKey
from asyncflow.settings import Settings

logger = logging.getLogger(__name__)

FAILED_PODS = "status.phase=Failed"
UNSUCCESSFUL_PODS = "status.phase!=Succeeded"
"""A pod without Job or record is an attempt all the same."""

TYPE_WORKERS = 2
START_PAUSE = 2.0
"""Seconds between tries to read the cluster at the start."""


class Operator:
    """Store, queues, slots and reconcilers, put together."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        self.client = ApiClient(connection)
        self.store = Store(self._task_changed, self._type_changed)
        self._synced = False
        self._slots: defaultdict[TypeKey, Slots] = defaultdict(Slots)
        self._failure: str | None = None
        self._recorder = EventRecorder(self.client, utc_now)
        self._task_queue = WorkQueue(self._reconcile_task, workers=settings.workers)
        self._type_queue = WorkQueue(self._reconcile_type, workers=TYPE_WORKERS)
        self._alarms = Alarms(self._task_queue.add, utc_now)
        self._tasks = TaskReconciler(
            self.client,
            self.store,
            self._slots,
            self._alarms,
            self._recorder,
            self._task_queue.add,
        )
        self._type_alarms = Alarms(self._type_queue.add, utc_now)
        self._types = TypeReconciler(self.client, self.store, self._recorder, self._type_alarms, utc_now)

    # How it fares

    def alive(self) -> str | None:
        """Return what is wrong beyond repair: a part of the operator that has ended."""
        return self._failure

    def ready(self) -> str | None:
        """Return what is missing until work is done."""
        return None if self._synced else "reading the cluster"

    # Its life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read the cluster, then work until the block ends; then finish what is under way."""
        await self._sync_at_start()
        tasks = [
            asyncio.create_task(self._guard(name, work), name=name)
            for name, work in (
                ("alarms", self._alarms.run()),
                ("type alarms", self._type_alarms.run()),
                ("events", self._recorder.run()),
                ("types", self._type_queue.run()),
                ("tasks", self._task_queue.run()),
                ("resync", self._resync()),
            )
        ]
        try:
            yield
        finally:
            logger.info("stopping: no more work is taken up")
            self._task_queue.stop()
            self._type_queue.stop()
            working = [task for task in tasks if task.get_name() in ("types", "tasks")]
            await asyncio.wait(working, timeout=self.settings.stop_seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _guard(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failure = f"{name} ended: {error!r}"
            logger.exception("%s ended; the operator has to be restarted", name)

    # Reading the cluster

    async def _sync_at_start(self) -> None:
        while True:
            try:
                await self._sync()
                break
            except (ApiError, ApiUnreachable) as error:
                logger.warning("the cluster can't be read yet: %s%s", error, _advice(error))
                await asyncio.sleep(START_PAUSE)
        for job in self.store.jobs.values():
            if not job.finished:
                self._slots[job.namespace, job.type_name].occupy(job.task_uid)
        for key in self.store.type_keys():
            self._type_changed(key)  # its tasks are known now: all of them ask before one is let in
        self._synced = True
        logger.info("ready: %d tasks, %d Jobs", len(self.store.tasks), len(self.store.jobs))

    async def _sync(self) -> None:
        """Compare the store with full lists: what a watch missed is put right, deletions above all."""
        types = await self._list(TYPES)
        tasks = await self._list(TASKS)
        jobs = await self._list(JOBS, labels=names.OURS)
        pods = await self._list(PODS, labels=names.OURS, fields=UNSUCCESSFUL_PODS)
        for put, listings in (
            (self.store.put_type, types),
            (self.store.put_task, tasks),
            (self.store.put_job, jobs),
            (self.store.put_pod, pods),
        ):
            for listing in listings:
                for body in listing.items:
                    put(body)
        dropped = self.store.retain(types=_shown(types), tasks=_shown(tasks), jobs=_shown(jobs))
        if dropped:
            logger.info("resync: %d objects were deleted unseen", dropped)

    async def _list(
        self, resource: Resource, *, labels: str | None = None, fields: str | None = None
    ) -> list[Listing]:
        namespaces: tuple[str | None, ...] = self.settings.namespaces or (None,)
        return [await self.client.list(resource, ns, labels=labels, fields=fields) for ns in namespaces]

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self.settings.resync_seconds)
            try:
                await self._sync()
            except (ApiError, ApiUnreachable) as error:
                logger.warning("resync failed and is tried again: %s", error)

    # What has changed

    def _task_changed(self, uid: str) -> None:
        self._task_queue.add(uid)

    def _type_changed(self, key: TypeKey) -> None:
        kind = self.store.kind(key)
        tasks = (self.store.tasks.get(uid) for uid in self.store.tasks_of(key))
        concerned = [
            task.metadata.uid for task in tasks if task is not None and not task.status.phase.terminal
        ]
        slots = self._slots[key]
        slots.expect(concerned)
        if kind is not None:
            for uid in slots.set_limit(kind.spec.max_concurrent):
                self._task_queue.add(uid)
        for uid in concerned:
            self._task_queue.add(uid)
        self._type_queue.add("/".join(key))

    async def _reconcile_task(self, uid: str) -> None:
        await self._tasks.reconcile(uid)

    async def _reconcile_type(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        await self._types.reconcile((namespace, name))


def _shown(listings: list[Listing]) -> tuple[set[str], int]:
    uids = {body["metadata"]["uid"] for listing in listings for body in listing.items}
    return uids, min(int(listing.resource_version) for listing in listings)


def _advice(error: ApiError | ApiUnreachable) -> str:
    if isinstance(error, ApiError) and error.not_found:
        return ". Are the CRDs installed? kubectl apply -f crds/"
    if isinstance(error, ApiError) and error.status in (401, 403):
        return ". Is the operator's ClusterRole bound to its ServiceAccount? See deploy/operator.yaml"
    return ""
