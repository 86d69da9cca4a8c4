"""What an operator does while it leads. Nothing of it outlives a lost leadership: the next begins anew."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from asyncflow.core.admission import Admission, LockId, TypeKey
from asyncflow.handlers.clock import utc_now
from asyncflow.handlers.governor import Governor
from asyncflow.handlers.tasks import TaskReconciler
from asyncflow.handlers.types import TypeReconciler
from asyncflow.kube.alarms import Alarms
from asyncflow.kube.client import ApiClient, ApiError, ApiUnreachable
from asyncflow.kube.queue import WorkQueue
from asyncflow.kube.recorder import EventRecorder
from asyncflow.kube.store import Store

logger = logging.getLogger(__name__)

TYPE_WORKERS = 2


class Work:
    """Queues, alarms, admission and reconcilers of one term of leadership.

    Args:
        client: the way to the API server; its writes are gated by the leadership.
        store: what is known of the cluster, just read.
        workers: how many tasks are worked on at the same time.
    """

    def __init__(self, client: ApiClient, store: Store, *, workers: int) -> None:
        self._store = store
        self._admission = Admission()
        self._orphaned: set[LockId] = set()
        self._failure: str | None = None
        self._recorder = EventRecorder(client, utc_now)
        self._task_queue = WorkQueue(self._reconcile_task, workers=workers)
        self._type_queue = WorkQueue(self._reconcile_type, workers=TYPE_WORKERS)
        self._alarms = Alarms(self._task_queue.add, utc_now)
        self._type_alarms = Alarms(self._type_queue.add, utc_now)
        self._tasks = TaskReconciler(
            client,
            store,
            self._admission,
            self._alarms,
            self._recorder,
            self._task_queue.add,
            lambda key: self._type_queue.add("/".join(key)),
        )
        self._types = TypeReconciler(
            client, store, self._recorder, self._type_alarms, self._admission, self._task_queue.add, utc_now
        )
        self._governor = Governor(client, store, self._admission, self._task_queue.add, utc_now)

    @property
    def failure(self) -> str | None:
        """What has ended that should not have."""
        return self._failure

    # Its life

    def begin(self) -> None:
        """Take up everything that the store knows: live attempts hold their slots before anyone asks."""
        for job in self._store.jobs.values():
            if not job.finished and not self._store.gone(job.uid):
                task = self._store.tasks.get(job.task_uid)
                lock = self._store.lock_id(task) if task is not None else None
                self._admission.occupy(job.task_uid, (job.namespace, job.type_name), lock)
                self._task_queue.add(job.task_uid)
        for lock_view in self._store.locks.values():
            self.lock_changed((lock_view.namespace, lock_view.name))
            self._task_queue.add(lock_view.task_uid)
        for task in self._store.tasks.values():
            self._task_queue.add(task.metadata.uid)
        for key in self._store.type_keys():
            self.type_changed(key)  # its tasks are known now: all of them ask before one is let in

    @asynccontextmanager
    async def running(self) -> AsyncIterator[list["asyncio.Task[None]"]]:
        """Work until the block ends. What is under way then is cut off: `finish` before, to let it end."""
        tasks = [
            asyncio.create_task(self._guard(name, work), name=name)
            for name, work in (
                ("alarms", self._alarms.run()),
                ("type alarms", self._type_alarms.run()),
                ("events", self._recorder.run()),
                ("types", self._type_queue.run()),
                ("tasks", self._task_queue.run()),
            )
        ]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self, tasks: list["asyncio.Task[None]"], seconds: float) -> None:
        """Take up no more work, and let what is under way end within so many seconds."""
        self._task_queue.stop()
        self._type_queue.stop()
        await asyncio.wait([t for t in tasks if t.get_name() in ("types", "tasks")], timeout=seconds)

    async def _guard(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failure = f"{name} ended: {error!r}"
            logger.exception("%s ended; the operator has to be restarted", name)

    # What has changed

    def task_changed(self, uid: str) -> None:
        """Have a task looked at."""
        self._task_queue.add(uid)

    def type_changed(self, key: TypeKey) -> None:
        """Have a type looked at, and all its tasks that have not ended."""
        kind = self._store.kind(key)
        tasks = (self._store.tasks.get(uid) for uid in self._store.tasks_of(key))
        concerned = [
            task.metadata.uid for task in tasks if task is not None and not task.status.phase.terminal
        ]
        self._admission.expect(key, concerned)
        if kind is not None:
            self._wake(self._admission.set_limit(key, kind.spec.max_concurrent))
        for uid in concerned:
            self._task_queue.add(uid)
        self._type_queue.add("/".join(key))

    def lock_changed(self, lock: LockId) -> None:
        """Note who holds a lock now."""
        held = self._store.lock(lock)
        self._wake(self._admission.set_leased(lock, held.task_uid if held is not None else None))
        orphaned = held is not None and self._store.orphaned(held)
        if orphaned or lock in self._orphaned:
            self._wake(self._admission.waiting_for(lock))  # for them to say so, or to say so no more
        (self._orphaned.add if orphaned else self._orphaned.discard)(lock)

    async def govern(self, key: TypeKey) -> None:
        """Look after the running attempts of a type."""
        try:
            await self._governor.tick(key)
        except (ApiError, ApiUnreachable) as error:
            logger.warning("running attempts of TaskType %s can't be looked at: %s", "/".join(key), error)

    def live_types(self) -> list[TypeKey]:
        """Return the types that have live attempts; also such that are no more."""
        return self._admission.live_types()

    def _wake(self, uids: list[str]) -> None:
        for uid in uids:
            self._task_queue.add(uid)

    async def _reconcile_task(self, uid: str) -> None:
        await self._tasks.reconcile(uid)

    async def _reconcile_type(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        await self._types.reconcile((namespace, name))
