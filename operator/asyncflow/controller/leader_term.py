"""One term of leadership: everything that an operator runs while it leads. Each term starts from scratch."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from asyncflow.controller.clock import utc_now
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.context import Context
from asyncflow.controller.garbage_collector import GarbageCollector
from asyncflow.controller.stuck import Governor
from asyncflow.controller.task_reconciler import TaskReconciler
from asyncflow.controller.type_reconciler import TypeReconciler
from asyncflow.core.scheduling.admission import Admission, LockId, TypeKey
from asyncflow.core.tasktype.snapshot import Due
from asyncflow.kube.client import ApiClient, ApiError, ApiUnreachable
from asyncflow.kube.queue import WorkQueue
from asyncflow.kube.recorder import EventRecorder
from asyncflow.settings import Settings

logger = logging.getLogger(__name__)

TYPE_WORKERS = 2

CHECK_PAUSE = 2.0
"""Seconds between two checks of running attempts, at least; it is at least ten times as long as a check."""


class LeaderTerm:
    """The work queues, admission, reconcilers and governors of one term of leadership.

    Args:
        client: the API client; it rejects writes unless this operator leads.
        state: the cluster state, just synced.
        settings: the settings of the operator.
        clock: returns the current time, with its time zone.
    """

    def __init__(
        self,
        client: ApiClient,
        state: ClusterState,
        settings: Settings,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._state = state
        self._settings = settings
        self._orphaned: set[LockId] = set()
        self._failure: str | None = None
        self._to_check: dict[TypeKey, None] = {}
        self._check = asyncio.Event()
        self.tasks = WorkQueue(self.reconcile_task, workers=settings.workers, clock=clock)
        self.types = WorkQueue(self.reconcile_type, workers=TYPE_WORKERS, clock=clock)
        self.garbage_collector = GarbageCollector(client, state, per_second=settings.deletions_per_second)
        self._recorder = EventRecorder(client, clock)
        self.admission = Admission()
        context = Context(
            client=client,
            state=state,
            admission=self.admission,
            recorder=self._recorder,
            garbage_collector=self.garbage_collector,
            tasks=self.tasks,
            types=self.types,
            clock=clock,
        )
        self._tasks = TaskReconciler(context, self._find_pods)
        self._types = TypeReconciler(
            context, deletions=math.ceil(settings.deletions_per_second * settings.roll_seconds)
        )
        self._governor = Governor(context)

    @property
    def failure(self) -> str | None:
        """Which of the term's loops has failed, if any: the operator must be restarted."""
        return self._failure

    # Start and stop

    def begin(self) -> None:
        """Queue all known objects; live attempts occupy their slots before any task is evaluated."""
        for job in self._state.jobs.values():
            if not job.finished and not self._state.gone(job.uid):
                task = self._state.tasks.get(job.task_uid)
                lock = self._state.lock_id(task) if task is not None else None
                self.admission.occupy(job.task_uid, (job.namespace, job.type_name), lock)
        for lock_view in self._state.locks.values():
            self.lock_changed((lock_view.namespace, lock_view.name))
            self.tasks.add(lock_view.task_uid)
        for uid in self._state.keys_to_reconcile():
            self.tasks.add(uid)
        for key in self._state.type_keys():
            self.type_changed(key, True)  # now that its tasks are known: all are evaluated before one starts

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list["asyncio.Task[None]"]]:
        """Run until the block ends, then cancel what is in flight; call `finish` first to let it complete."""
        tasks = [
            asyncio.create_task(self._guard(name, work), name=name)
            for name, work in (
                ("events", self._recorder.run()),
                ("types", self.types.run()),
                ("tasks", self.tasks.run()),
                ("garbage collector", self.garbage_collector.run()),
                ("running attempts", self._check_requested()),
                ("stuck-task governor", self._every(self._settings.stuck_seconds, self._govern_all)),
                ("split governor", self._every(self._settings.split_seconds, self._split_all)),
                ("roll governor", self._every(self._settings.roll_seconds, self._roll_all)),
            )
        ]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self, tasks: list["asyncio.Task[None]"], seconds: float) -> None:
        """Start no more reconciliations, and wait up to so many seconds for those in flight."""
        self.tasks.stop()
        self.types.stop()
        await asyncio.wait([t for t in tasks if t.get_name() in ("types", "tasks")], timeout=seconds)

    async def _every(self, seconds: float, tick: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            tick()

    async def _guard(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failure = f"{name} failed, restart required: {error!r}"
            logger.exception("%s failed, restart required", name)

    # Changes

    def task_changed(self, uid: str) -> None:
        """Queue a task."""
        self.tasks.add(uid)

    def type_changed(self, key: TypeKey, affects_tasks: bool) -> None:
        """Queue a type, and all its unfinished tasks if the change affects them.

        A change of the concurrency limit does not: it takes effect at once.
        """
        task_type = self._state.task_type(key)
        tasks = self._state.census(key).unfinished() if affects_tasks else []
        self.admission.expect(key, tasks)
        if task_type is not None:
            self._wake(self.admission.set_limit(key, task_type.spec.max_concurrent))
        self._wake(tasks)
        self.types.add("/".join(key))

    def lock_changed(self, lock: LockId) -> None:
        """Update the holder of a lock, and wake the tasks that this affects."""
        held = self._state.lock(lock)
        self._wake(self.admission.set_lease_holder(lock, held.task_uid if held is not None else None))
        orphaned = held is not None and self._state.orphaned(held)
        if orphaned or lock in self._orphaned:
            self._wake(self.admission.waiting_for(lock))  # their statuses report orphaned locks
        (self._orphaned.add if orphaned else self._orphaned.discard)(lock)

    # The governors

    async def govern(self, key: TypeKey) -> None:
        """Check the running attempts of a type."""
        try:
            await self._governor.tick(key)
        except (ApiError, ApiUnreachable) as error:
            logger.warning("failed to check running attempts of TaskType %s: %s", "/".join(key), error)

    def request(self, key: TypeKey, due: Due) -> None:
        """Request a split or a roll of a type's shards; a roll also counts its tasks."""
        self._types.request(key, due)

    def _find_pods(self, key: TypeKey) -> None:
        self._to_check[key] = None
        self._check.set()

    async def _check_requested(self) -> None:
        """Check the running attempts of the requested types; requests made meanwhile share the next check."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._check.wait()
            self._check.clear()
            keys, self._to_check = list(self._to_check), {}
            start = clock()
            for key in keys:
                await self.govern(key)
            await asyncio.sleep(max(CHECK_PAUSE, 10 * (clock() - start)))

    def _govern_all(self) -> None:
        for key in self.admission.live_types():  # including deleted types
            self._find_pods(key)

    def _split_all(self) -> None:
        for key in self._state.type_keys():
            self.request(key, Due.SPLIT)

    def _roll_all(self) -> None:
        for key in self._state.type_keys():
            self.request(key, Due.ROLL)

    def _wake(self, uids: list[str]) -> None:
        for uid in uids:
            self.tasks.add(uid)

    async def reconcile_task(self, uid: str) -> None:
        """Reconcile a task."""
        await self._tasks.reconcile(uid)

    async def reconcile_type(self, key: str) -> None:
        """Reconcile a type, given as ``namespace/name``."""
        namespace, _, name = key.partition("/")
        await self._types.reconcile((namespace, name))
