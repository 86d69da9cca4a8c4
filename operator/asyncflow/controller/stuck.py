"""The stuck-task governor: it looks after attempts that have run for a while.

What is to be done about one is decided in `asyncflow.core.lifecycle.running`. The governor sees to it that
the decision is made on current facts: the pods of running attempts are not watched, nor are nodes, and a
watch may have missed that a Job is gone.
"""

import logging
from datetime import datetime, timedelta

from asyncflow.api import names
from asyncflow.api.asynctask import STUCK, AsyncTask
from asyncflow.api.meta import is_true
from asyncflow.controller.context import Context
from asyncflow.core.lifecycle.running import RECORD_AFTER, RECORD_ANYWAY, taken_up
from asyncflow.core.scheduling.admission import TypeKey
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.node import NodeView, node_view
from asyncflow.kube.client import JOBS, NODES, PODS, ApiError

logger = logging.getLogger(__name__)

LIVE_PODS = "status.phase!=Succeeded,status.phase!=Failed"
NODE_KNOWN_FOR = timedelta(minutes=10)
"""How long what was seen of a node serves attempts that are not stuck."""


class Governor:
    """Looks after the running attempts of one type at a time."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._state = context.state
        self._admission = context.admission
        self._queue = context.tasks
        self._clock = context.clock
        self._nodes_seen: dict[str, datetime] = {}
        self._told: dict[TypeKey, dict[str, NodeView | None]] = {}
        """By type: its tasks' nodes, as they were when the tasks were last woken for them."""

    async def tick(self, key: TypeKey) -> None:
        """Look at every attempt of a type that has run for some seconds, with one list of pods.

        Raises:
            ApiError, ApiUnreachable: the API server did not answer; the next tick looks again.
        """
        now = self._clock()
        tasks = [task for task in self._live_tasks(key) if self._has_run(task, now)]
        if not tasks:
            self._told.pop(key, None)
            return
        labels = f"{names.ATTEMPT_SELECTOR},{names.TYPE_LABEL}={key[1]}"
        pods = (await self._client.list(PODS, key[0], labels=labels, fields=LIVE_PODS)).items
        stuck = [task for task in tasks if is_true(task.status.conditions, STUCK)]
        for name in sorted({body["spec"].get("nodeName", "") for body in pods} - {""}):
            await self._look_at_node(name, now, NODE_KNOWN_FOR)
        for name in sorted({name for task in stuck for name in self._nodes_of(task)}):
            await self._look_at_node(name, now, timedelta(0))
        for body in pods:
            self._state.put_pod(body)  # after its node, so that both go into one record
        for task in stuck:
            for job in self._state.jobs_of(task.metadata.uid):
                await self._look_at_job(job)
            self._queue.add(task.metadata.uid)
        for task in tasks:
            self._note_without_pod(task, now)
        self._tell_of_nodes(key, tasks)

    def _tell_of_nodes(self, key: TypeKey, tasks: list[AsyncTask]) -> None:
        """Wake the tasks on nodes that were looked at since their type was last told of them."""
        told, news = self._told.get(key, {}), dict[str, NodeView | None]()
        for task in tasks:
            seen = {name: self._state.node(name) for name in self._nodes_of(task)}
            if any(name not in told or told[name] != node for name, node in seen.items()):
                self._queue.add(task.metadata.uid)
            news |= seen
        self._told[key] = news

    def _nodes_of(self, task: AsyncTask) -> set[str]:
        """Return where attempts of a task are known to run."""
        nodes = {pod.node_name for pod in self._state.pods_of(task.metadata.uid)}
        nodes |= {a.node_name for a in task.status.attempts if a.outcome is None and a.node_name}
        return nodes - {""}

    def _note_without_pod(self, task: AsyncTask, now: datetime) -> None:
        """Note which attempts have no pod for long: the Job controller is late, or somebody deleted it."""
        uid = task.metadata.uid
        found = {pod.job_uid for pod in self._state.pods_of(uid)}
        for job in self._state.jobs_of(uid):
            if not job.has_pod or job.finished or job.closed or now < taken_up(job) + RECORD_ANYWAY:
                continue
            if job.uid not in found:
                self._state.note_pods_listed(job.uid, uid, now)

    def _live_tasks(self, key: TypeKey) -> list[AsyncTask]:
        live = sorted(self._admission.slots(key).live)
        return [task for uid in live if (task := self._state.tasks.get(uid)) is not None]

    def _has_run(self, task: AsyncTask, now: datetime) -> bool:
        """Tell whether an attempt has run long enough to be looked at, or is known by its record only."""
        if is_true(task.status.conditions, STUCK):
            return True
        jobs = [job for job in self._state.jobs_of(task.metadata.uid) if not job.finished]
        return not jobs or any(now >= self._look_at(job) for job in jobs)

    def _look_at(self, job: Execution) -> datetime:
        """Return from when on an attempt is looked at; later, as long as no pod of it is known."""
        known = job.has_pod or self._state.gone(job.uid) or self._state.pods_of(job.task_uid)
        return taken_up(job) + (RECORD_AFTER if known else RECORD_ANYWAY)

    async def _look_at_node(self, name: str, now: datetime, known_for: timedelta) -> None:
        seen = self._nodes_seen.get(name)
        if seen is not None and now - seen <= known_for:
            return
        try:
            node = node_view(await self._client.get(NODES, None, name), now)
        except ApiError as error:
            if error.not_found:
                self._nodes_seen[name] = now
                self._state.drop_node(name)
            else:
                logger.warning("failed to get Node %s: %s", name, error)
            return
        self._state.put_node(node)
        if node.out_of_service:
            self._nodes_seen.pop(name, None)  # read each time, so that a taint that was removed is noticed
        else:
            self._nodes_seen[name] = now

    async def _look_at_job(self, job: Execution) -> None:
        try:
            body = await self._client.get(JOBS, job.namespace, job.name)
        except ApiError as error:
            if not error.not_found:
                raise
            self._state.drop_job(job.uid)
            return
        if body["metadata"]["uid"] == job.uid:
            self._state.put_job(body)
        else:
            self._state.drop_job(job.uid)
