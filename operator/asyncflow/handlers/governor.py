"""The stuck-task governor: it looks after attempts that have run for a while.

What is to be done about one is decided where all is (`asyncflow.core.running`); here is only seen to it that
the decision is made on what is so: the pods of running attempts are not watched, nodes neither, and a watch
may have missed that a Job is gone.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from asyncflow.api import names
from asyncflow.api.asynctask import STUCK, AsyncTask
from asyncflow.api.meta import is_true
from asyncflow.core.admission import Admission, TypeKey
from asyncflow.core.observed import JobView, node_view
from asyncflow.core.running import RECORD_AFTER
from asyncflow.kube.client import JOBS, NODES, PODS, ApiClient, ApiError
from asyncflow.kube.store import Store

logger = logging.getLogger(__name__)

LIVE_PODS = "status.phase!=Succeeded,status.phase!=Failed"
NODE_KNOWN_FOR = timedelta(minutes=10)
"""How long what was seen of a node serves attempts that are not stuck."""


class Governor:
    """Looks after the running attempts of one type at a time."""

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        admission: Admission,
        enqueue: Callable[[str], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._store = store
        self._admission = admission
        self._enqueue = enqueue
        self._clock = clock
        self._nodes_seen: dict[str, datetime] = {}

    async def tick(self, key: TypeKey) -> None:
        """Look at every attempt of a type that has run for some seconds, with one list of pods.

        Raises:
            ApiError, ApiUnreachable: the API server did not answer; the next tick looks again.
        """
        now = self._clock()
        tasks = [task for task in self._live_tasks(key) if self._has_run(task, now)]
        if not tasks:
            return
        labels = f"{names.OURS},{names.TYPE_LABEL}={key[1]}"
        for body in (await self._client.list(PODS, key[0], labels=labels, fields=LIVE_PODS)).items:
            self._store.put_pod(body)
        for task in tasks:
            uid, stuck = task.metadata.uid, is_true(task.status.conditions, STUCK)
            nodes = {pod.node_name for pod in self._store.pods_of(uid)}
            nodes |= {a.node_name for a in task.status.attempts if a.outcome is None and a.node_name}
            for name in sorted(nodes - {""}):
                await self._look_at_node(name, now, timedelta(0) if stuck else NODE_KNOWN_FOR)
            if stuck:
                for job in self._store.jobs_of(uid):
                    await self._look_at_job(job)
            self._enqueue(uid)

    def _live_tasks(self, key: TypeKey) -> list[AsyncTask]:
        live = sorted(self._admission.slots(key).live)
        return [task for uid in live if (task := self._store.tasks.get(uid)) is not None]

    def _has_run(self, task: AsyncTask, now: datetime) -> bool:
        """Tell whether an attempt has run long enough to be looked at, or is known by its record only."""
        jobs = [job for job in self._store.jobs_of(task.metadata.uid) if not job.finished]
        return not jobs or any(now >= job.created + RECORD_AFTER for job in jobs)

    async def _look_at_node(self, name: str, now: datetime, known_for: timedelta) -> None:
        seen = self._nodes_seen.get(name)
        if seen is not None and now - seen <= known_for:
            return
        self._nodes_seen[name] = now
        try:
            node = node_view(await self._client.get(NODES, None, name), now)
            self._store.put_node(node)
            if node.out_of_service:
                del self._nodes_seen[name]  # looked at again each time, lest the taint outlive its day here
        except ApiError as error:
            if not error.not_found:
                raise
            self._store.drop_node(name)

    async def _look_at_job(self, job: JobView) -> None:
        try:
            body = await self._client.get(JOBS, job.namespace, job.name)
        except ApiError as error:
            if not error.not_found:
                raise
            self._store.drop_job(job.uid)
            return
        if body["metadata"]["uid"] == job.uid:
            self._store.put_job(body)
        else:
            self._store.drop_job(job.uid)
