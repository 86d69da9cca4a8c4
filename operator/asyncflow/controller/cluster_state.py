"""The cluster state: an in-memory copy of the cluster, with the indexes that the reconcilers need.

It is updated from lists, watch events and the responses to the operator's own writes, in any order: an object
is replaced only by a newer version of it (resource versions are comparable: KEP-5504), and a deleted object
does not reappear from an older list.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from asyncflow.api.asynctask import AsyncTask
from asyncflow.api.tasktype import TaskType
from asyncflow.controller.tables import SerializedTable, Table
from asyncflow.core.attempt.naming import lock_name
from asyncflow.core.lifecycle.blocker import Blocker
from asyncflow.core.lifecycle.history import is_recorded
from asyncflow.core.lifecycle.interventions import retry_now
from asyncflow.core.lifecycle.lock_fate import is_orphaned
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.scheduling.admission import Gate, LockId, TypeKey
from asyncflow.core.tasktype import error_policy
from asyncflow.core.tasktype.census import Census, Entry
from asyncflow.core.tasktype.readiness import dry_run_subject, matters_to_tasks
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.job import execution_of_job
from asyncflow.core.views.lease import LockView, lock_view
from asyncflow.core.views.node import NodeView
from asyncflow.core.views.pod import PodView, pod_view

logger = logging.getLogger(__name__)

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

CACHED_TASKS = 4096
"""How many tasks are cached as objects, 5 KiB each; the others are serialized only, 0.5 KiB each."""

Body = dict[str, Any]
K = TypeVar("K")
Uids = dict[str, None]
"""Uids in insertion order."""


class ClusterState:
    """The cluster as last observed.

    Args:
        task_changed: called with a task's uid when the task, or a Job or pod of it, has changed.
        type_changed: called with a type's namespace and name when it has changed, and with whether the change
            affects its tasks.
        lock_changed: called with a lock's namespace and name when it was acquired or released.
    """

    def __init__(
        self,
        task_changed: Callable[[str], None],
        type_changed: Callable[[TypeKey, bool], None],
        lock_changed: Callable[[LockId], None],
    ) -> None:
        self._task_changed = task_changed
        self._type_changed = type_changed
        self._lock_changed = lock_changed
        self.tasks: SerializedTable[AsyncTask] = SerializedTable(deserialized, cached=CACHED_TASKS)
        self.jobs: Table[Execution] = Table()
        self.locks: Table[LockView] = Table()
        self._types: Table[TaskType] = Table()
        self._pods: Table[PodView] = Table()
        self._type_uids: dict[TypeKey, str] = {}
        self._dry_run_generation: dict[TypeKey, int] = {}
        self._censuses: defaultdict[TypeKey, Census] = defaultdict(Census)
        self._jobs_of: defaultdict[str, Uids] = defaultdict(dict)
        self._pods_of: defaultdict[str, Uids] = defaultdict(dict)
        self._lock_uids: dict[LockId, str] = {}
        self._locks_of: defaultdict[str, Uids] = defaultdict(dict)
        self._nodes: dict[str, NodeView] = {}
        self._run_requested: Uids = {}
        self._gone: set[str] = set()
        self._pods_listed_at: dict[str, datetime] = {}

    # Queries

    def task_type(self, key: TypeKey) -> TaskType | None:
        """Return the type with that namespace and name, if it exists."""
        uid = self._type_uids.get(key)
        return self._types.get(uid) if uid else None

    def type_keys(self) -> list[TypeKey]:
        """Return the namespace and name of every type."""
        return list(self._type_uids)

    def census(self, key: TypeKey) -> Census:
        """Return the census of a type's tasks."""
        return self._censuses[key]

    def keys_to_reconcile(self) -> Iterable[str]:
        """Return the tasks for which work may be due: unfinished, with Jobs, or requested to run again."""
        for census in self._censuses.values():
            yield from census.unfinished()
        yield from list(self._jobs_of)
        yield from list(self._run_requested)

    def jobs_of(self, task_uid: str) -> list[Execution]:
        """Return the Jobs of a task, including deleted ones that are still needed as evidence."""
        return [job for uid in self._jobs_of.get(task_uid, ()) if (job := self.jobs.get(uid)) is not None]

    def pods_of(self, task_uid: str) -> list[PodView]:
        """Return the pods of a task as last observed, including ones that no longer exist."""
        return [pod for uid in self._pods_of.get(task_uid, ()) if (pod := self._pods.get(uid)) is not None]

    def gone(self, job_uid: str) -> bool:
        """Return whether a Job that `jobs_of` still returns was deleted."""
        return job_uid in self._gone

    def lock(self, key: LockId) -> LockView | None:
        """Return the lock with that namespace and name, if it is held."""
        uid = self._lock_uids.get(key)
        return self.locks.get(uid) if uid else None

    def locks_of(self, task_uid: str) -> list[LockView]:
        """Return the locks that attempts of a task hold."""
        return [lock for uid in self._locks_of.get(task_uid, ()) if (lock := self.locks.get(uid)) is not None]

    def lock_id(self, task: AsyncTask) -> LockId | None:
        """Return the lock that a task needs, if it has a lockKey."""
        key = task.spec.lock_key
        return None if key is None else (task.metadata.namespace, lock_name(key))

    def snapshot(
        self,
        task_uid: str,
        blocker: Blocker | None = None,
        gate: Gate | None = None,
        last_create: datetime | None = None,
    ) -> Snapshot | None:
        """Return a snapshot of a task for `decide`; None if the task does not exist."""
        task = self.tasks.get(task_uid)
        if task is None:
            return None
        jobs = tuple(self.jobs_of(task_uid))
        pods = tuple(self.pods_of(task_uid))
        lock_id = self.lock_id(task)
        lock = self.lock(lock_id) if lock_id else None
        task_type, census = self.task_type(task.type_key), self.census(task.type_key)
        open_jobs = {job.uid for job in jobs} | {a.job_uid for a in task.status.attempts if a.outcome is None}
        open_jobs |= {pod.job_uid for pod in pods}
        node_names = {pod.node_name for pod in pods}
        node_names |= {a.node_name for a in task.status.attempts if a.node_name}
        return Snapshot(
            task=task,
            task_type=task_type,
            dry_run_generation=self._dry_run_generation.get(task.type_key),
            suspended_itself=error_policy.suspended_itself(task_type, census.failures())
            if task_type is not None
            else "",
            jobs=jobs,
            pods=pods,
            gone=frozenset(job.uid for job in jobs if job.uid in self._gone),
            pods_listed_at={
                uid: self._pods_listed_at[uid] for uid in open_jobs if uid in self._pods_listed_at
            },
            blocker=blocker,
            gate=gate,
            last_create=last_create,
            nodes={name: self._nodes[name] for name in node_names if name in self._nodes},
            lock=lock,
            lock_orphaned=lock is not None and self.orphaned(lock),
        )

    def orphaned(self, lock: LockView) -> bool:
        """Return whether a lock's task has ended or was deleted, without evidence of its attempt's end."""
        jobs = self.jobs_of(lock.task_uid)
        gone = frozenset(job.uid for job in jobs if job.uid in self._gone)
        return is_orphaned(self.tasks.get(lock.task_uid), jobs, gone)

    # Updates

    def put_task(self, body: Body) -> bool:
        """Store a task if it is newer than what is known; return whether it was stored."""
        uid, version = _identity(body)
        if not self.tasks.is_newer(uid, version):
            return False
        try:
            task = AsyncTask.model_validate(body)
        except ValidationError as error:
            _log_invalid(body, error)
            return False
        self.tasks.put(uid, version, serialized(body), task)
        run_requested = task.status.phase.terminal and retry_now(task) is not None
        if run_requested:
            self._run_requested[uid] = None
        else:
            self._run_requested.pop(uid, None)
        deletable = task.metadata.deletion_timestamp is None and not run_requested
        self.census(task.type_key).put(uid, Entry.of(task, deletable=deletable))
        self._forget_unneeded(uid)
        for pod in self.pods_of(uid):
            if is_recorded(task.status, pod.attempt):
                self._forget_pods(uid, pod.job_uid)
        self._task_changed(uid)
        return True

    def drop_task(self, uid: str) -> None:
        """Remove a deleted task; its Jobs are removed when they are deleted."""
        task = self.tasks.drop(uid)
        self._run_requested.pop(uid, None)
        self._locks_changed(uid)
        if task is not None:
            self.census(task.type_key).drop(uid)
        self._forget_unneeded(uid)
        if not self._jobs_of.get(uid):
            self._forget_pods(uid)
        self._task_changed(uid)

    def put_type(self, body: Body) -> bool:
        """Store a type if it is newer than what is known; return whether it was stored."""
        try:
            task_type = TaskType.model_validate(body)
        except ValidationError as error:
            _log_invalid(body, error)
            return False
        meta = task_type.metadata
        before = self._types.get(meta.uid)
        if not self._types.put(meta.uid, int(meta.resource_version), task_type):
            return False
        key = (meta.namespace, meta.name)
        _index_newest(self._type_uids, key, meta.uid, self._types)
        if self._type_uids[key] != meta.uid:
            return True  # a late event of a deleted type with this name
        if before is None or dry_run_subject(before) != dry_run_subject(task_type):
            self._dry_run_generation[key] = meta.generation
        dry_run_generation = self._dry_run_generation[key]
        error_policy.restore_from_status(task_type, self.census(key))
        affects_tasks = before is None or matters_to_tasks(before, dry_run_generation) != matters_to_tasks(
            task_type, dry_run_generation
        )
        self._type_changed(key, affects_tasks)
        return True

    def drop_type(self, uid: str) -> None:
        """Remove a deleted type."""
        task_type = self._types.drop(uid)
        if task_type is None:
            return
        key = (task_type.metadata.namespace, task_type.metadata.name)
        if self._type_uids.get(key) == uid:
            del self._type_uids[key]
            self._dry_run_generation.pop(key, None)
            self.census(key).suspension = ""
        self._type_changed(key, True)

    def put_job(self, body: Body) -> bool:
        """Store the Job of an attempt if it is newer than what is known; return whether it was stored."""
        if not self.jobs.is_newer(*_identity(body)) or (job := execution_of_job(body)) is None:
            return False
        before = self.jobs.get(job.uid)
        if before is not None and before.without_pod:
            job = replace(job, without_pod=True)
        if before is not None and before.has_pod and not job.has_pod:
            job = replace(job, has_pod=True)  # it had one, even if its status no longer shows it
        self.jobs.put(job.uid, int(job.resource_version), job)
        if before is not None and replace(before, resource_version=job.resource_version) == job:
            return True  # no field that the rules use has changed
        if before is not None and (job.finished, job.closed) != (before.finished, before.closed):
            self._pods_listed_at.pop(job.uid, None)  # pods listed before do not show its end
        self._jobs_of[job.task_uid][job.uid] = None
        self._task_changed(job.task_uid)
        return True

    def drop_job(self, uid: str) -> None:
        """Mark a Job as deleted. It is kept, with its pods, as long as it is needed as evidence."""
        job = self.jobs.get(uid)
        if job is None or uid in self._gone:
            return
        if self._needed(job):
            self._gone.add(uid)
            self._pods_listed_at.pop(uid, None)
        else:
            self._forget_job(job)
        self._locks_changed(job.task_uid)
        self._task_changed(job.task_uid)

    def _needed(self, job: Execution) -> bool:
        """Return whether a deleted Job is still needed as evidence: for its task, or for a lock."""
        if any(lock.attempt_number == job.attempt.number for lock in self.locks_of(job.task_uid)):
            return True
        task = self.tasks.get(job.task_uid)
        return (
            task is not None
            and not task.status.phase.terminal
            and not is_recorded(task.status, job.attempt.number)
        )

    def put_pod(self, body: Body) -> bool:
        """Store the pod of an attempt if it is newer than what is known; return whether it was stored.

        A deleted pod is kept as last observed.
        """
        if not self._pods.is_newer(*_identity(body)):
            return False  # before it is read: most events of a finished pod are not needed any more
        pod = pod_view(body)
        if pod is None or (pod.task_uid not in self.tasks and pod.job_uid not in self.jobs):
            return False
        task, job, before = self.tasks.get(pod.task_uid), self.jobs.get(pod.job_uid), self._pods.get(pod.uid)
        if task is not None and is_recorded(task.status, pod.attempt):
            return False  # its evidence is not needed any more
        if before is not None and before.started and not pod.started:
            pod = replace(pod, started=True, rejected=False, preparing="")
        if not self._pods.put(pod.uid, int(pod.resource_version), pod):
            return False
        self._pods_of[pod.task_uid][pod.uid] = None
        plain_success = pod.phase == "Succeeded" and not pod.interrupted
        if not plain_success or (job is not None and job.finished):
            self._task_changed(pod.task_uid)  # else the event of its Job follows
        return True

    def put_unbound_pod(self, body: Body) -> bool:
        """Store a pod that was deleted before it was bound to a node; others say nothing new."""
        return "deletionTimestamp" in body["metadata"] and self.put_pod(body)

    def put_lock(self, body: Body) -> bool:
        """Store the Lease of a lock if it is newer than what is known; return whether it was stored."""
        lock = lock_view(body)
        if lock is None or not self.locks.put(lock.uid, int(lock.resource_version), lock):
            return False
        key = (lock.namespace, lock.name)
        _index_newest(self._lock_uids, key, lock.uid, self.locks)
        self._locks_of[lock.task_uid][lock.uid] = None
        self._lock_changed(key)
        return True

    def drop_lock(self, uid: str) -> None:
        """Remove a lock whose Lease was deleted, by the operator or by anyone else."""
        lock = self.locks.drop(uid)
        if lock is None:
            return
        key = (lock.namespace, lock.name)
        if self._lock_uids.get(key) == uid:
            del self._lock_uids[key]
        _discard(self._locks_of, lock.task_uid, uid)
        self._forget_unneeded(lock.task_uid)
        self._lock_changed(key)

    def node(self, name: str) -> NodeView | None:
        """Return a node as last read."""
        return self._nodes.get(name)

    def put_node(self, node: NodeView) -> None:
        """Store a node."""
        self._nodes[node.name] = node

    def note_pods_listed(
        self,
        job_uid: str,
        task_uid: str,
        now: datetime,
        existing: Collection[str] = (),
        *,
        job_deleting: bool = False,
    ) -> None:
        """Record that a Job's pods were listed, and the uids of those that exist: the others are gone.

        Args:
            job_uid: the Job.
            task_uid: its task.
            now: when they were listed.
            existing: the uids of its pods.
            job_deleting: whether the Job existed and was being deleted, so that it could create no other pod.
        """
        self._pods_listed_at[job_uid] = now
        if job_deleting and not existing:
            self.note_never_ran(job_uid)
        for pod in self.pods_of(task_uid):
            if pod.job_uid == job_uid and pod.uid not in existing and not pod.gone:
                self._pods.update(pod.uid, replace(pod, gone=True))
        self._task_changed(task_uid)

    def pods_listed(self, job_uid: str) -> bool:
        """Return whether the pods of a Job were listed since it was last known to end or to be deleted."""
        return job_uid in self._pods_listed_at

    def note_never_ran(self, job_uid: str) -> None:
        """Record that a Job has no pod and can create none any more: it never had one."""
        job = self.jobs.get(job_uid)
        if job is not None and not job.has_pod:
            self.jobs.update(job_uid, replace(job, without_pod=True))

    def retain(
        self,
        *,
        tasks: tuple[set[str], int] | None = None,
        types: tuple[set[str], int] | None = None,
        jobs: tuple[set[str], int] | None = None,
        locks: tuple[set[str], int] | None = None,
    ) -> int:
        """Remove the objects that are missing in complete lists; return how many.

        Each list is given by the uids in it and its resource version.
        """
        dropped = 0
        for listed, table, drop in (
            (tasks, self.tasks, self.drop_task),
            (types, self._types, self.drop_type),
            (jobs, self.jobs, self.drop_job),
            (locks, self.locks, self.drop_lock),
        ):
            if listed is None:
                continue
            for uid in table.compare(*listed):
                if uid not in self._gone:
                    drop(uid)
                    dropped += 1
        return dropped

    def _locks_changed(self, task_uid: str) -> None:
        for lock in self.locks_of(task_uid):
            self._lock_changed((lock.namespace, lock.name))

    def _forget_unneeded(self, task_uid: str) -> None:
        """Remove deleted Jobs that are no longer needed as evidence."""
        for job in self.jobs_of(task_uid):
            if job.uid in self._gone and not self._needed(job):
                self._forget_job(job)

    def _forget_job(self, job: Execution) -> None:
        self.jobs.drop(job.uid)
        self._gone.discard(job.uid)
        self._pods_listed_at.pop(job.uid, None)
        _discard(self._jobs_of, job.task_uid, job.uid)
        self._forget_pods(job.task_uid, job.uid)

    def _forget_pods(self, task_uid: str, job_uid: str | None = None) -> None:
        for uid in list(self._pods_of.get(task_uid, ())):
            pod = self._pods.get(uid)
            if pod is None or job_uid is None or pod.job_uid == job_uid:
                self._pods.drop(uid)
                _discard(self._pods_of, task_uid, uid)


def _index_newest(
    index: dict[tuple[str, str], str], key: tuple[str, str], uid: str, table: Table[Any]
) -> None:
    """Map a name to an object, unless it maps to a newer one: events of older objects may arrive late."""
    current = index.get(key)
    if current is None or table.version(current) < table.version(uid):
        index[key] = uid


def _discard(index: defaultdict[K, Uids], key: K, value: str) -> None:
    values = index.get(key)
    if values is not None:
        values.pop(value, None)
        if not values:
            del index[key]


def serialized(body: Body) -> bytes:
    """Return a task as JSON, without fields that the operator does not read."""
    meta = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    if LAST_APPLIED in (meta.get("annotations") or ()):
        meta["annotations"] = {k: v for k, v in meta["annotations"].items() if k != LAST_APPLIED}
    kept = {"metadata": meta, "spec": body["spec"], "status": body.get("status") or {}}
    try:
        text = orjson.dumps(kept)
    except TypeError:  # an integer beyond 64 bits, which kopf's decoder lets through
        text = json.dumps(kept, separators=(",", ":")).encode()
    return bytes(memoryview(text))  # a copy: the result of orjson occupies at least 4 KiB


def deserialized(text: bytes) -> AsyncTask:
    """Return the task of a serialized text."""
    return AsyncTask.model_validate(orjson.loads(text))


def _identity(body: Body) -> tuple[str, int]:
    """Return an object's uid and resource version."""
    meta = body["metadata"]
    return meta["uid"], int(meta["resourceVersion"])


def _log_invalid(body: Body, error: ValidationError) -> None:
    meta = body.get("metadata", {})
    logger.error(
        "skipping invalid %s %s/%s: %s",
        body.get("kind", "object"),
        meta.get("namespace"),
        meta.get("name"),
        "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]),
    )
