"""The stuck-task governor: refreshes what is known of attempts that have run for a while.

`asyncflow.core.lifecycle.running` decides what to do about them. The governor provides current data for the
decision: neither the pods of running attempts nor nodes are watched, and a watch may have missed the deletion
of a Job.
"""

import logging
from datetime import datetime, timedelta

from asyncflow.api import names
from asyncflow.api.asynctask import STUCK, AsyncTask
from asyncflow.api.meta import is_true
from asyncflow.controller.context import Context
from asyncflow.core.lifecycle.interventions import death_confirmation
from asyncflow.core.lifecycle.record import RECORD_AFTER, RECORD_ANYWAY, running_since
from asyncflow.core.scheduling.admission import TypeKey
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.node import NodeView, missing_node, node_view
from asyncflow.kube.client import JOBS, NODES, PODS, ApiError

logger = logging.getLogger(__name__)

LIVE_PODS = "status.phase!=Succeeded,status.phase!=Failed"
NODE_MAX_AGE = timedelta(minutes=10)
"""How long a node that was read is reused for attempts that are not stuck."""


class Governor:
    """Checks the running attempts of one type at a time."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._state = context.state
        self._admission = context.admission
        self._queue = context.tasks
        self._clock = context.clock
        self._node_read_at: dict[str, datetime] = {}
        self._reported_nodes: dict[TypeKey, dict[str, NodeView | None]] = {}
        """By type: the nodes of its tasks, as they were when the tasks were last woken for them."""

    async def tick(self, key: TypeKey) -> None:
        """Check every attempt of a type that has run for some seconds, with one list of pods.

        Raises:
            ApiError, ApiUnreachable: a request failed; the next tick repeats the check.
        """
        now = self._clock()
        tasks = [task for task in self._live_tasks(key) if self._is_due(task, now)]
        if not tasks:
            self._reported_nodes.pop(key, None)
            return
        labels = f"{names.ATTEMPT_SELECTOR},{names.TYPE_LABEL}={key[1]}"
        pods = (await self._client.list(PODS, key[0], labels=labels, fields=LIVE_PODS)).items
        stuck = [task for task in tasks if _needs_evidence(task, now)]
        for name in sorted({body["spec"].get("nodeName", "") for body in pods} - {""}):
            await self._refresh_node(name, now, NODE_MAX_AGE)
        for name in sorted({name for task in stuck for name in self._nodes_of(task)}):
            await self._refresh_node(name, now, timedelta(0))
        for body in pods:
            self._state.put_pod(body)  # after its node, so that one status write records both
        for task in stuck:
            for job in self._state.jobs_of(task.metadata.uid):
                await self._refresh_job(job)
            self._queue.add(task.metadata.uid)
        for task in tasks:
            self._note_without_pod(task, now)
        self._wake_for_nodes(key, tasks)

    def _wake_for_nodes(self, key: TypeKey, tasks: list[AsyncTask]) -> None:
        """Wake the tasks on nodes that were read since the tasks of this type were last woken for them."""
        reported, current = self._reported_nodes.get(key, {}), dict[str, NodeView | None]()
        for task in tasks:
            nodes = {name: self._state.node(name) for name in self._nodes_of(task)}
            if any(name not in reported or reported[name] != node for name, node in nodes.items()):
                self._queue.add(task.metadata.uid)
            current |= nodes
        self._reported_nodes[key] = current

    def _nodes_of(self, task: AsyncTask) -> set[str]:
        """Return the names of the nodes on which attempts of a task are known to run."""
        nodes = {pod.node_name for pod in self._state.pods_of(task.metadata.uid)}
        nodes |= {a.node_name for a in task.status.attempts if a.outcome is None and a.node_name}
        return nodes - {""}

    def _note_without_pod(self, task: AsyncTask, now: datetime) -> None:
        """Record which attempts lack a pod for long: the Job controller is late, or the pod was deleted."""
        uid = task.metadata.uid
        with_pods = {pod.job_uid for pod in self._state.pods_of(uid)}
        for job in self._state.jobs_of(uid):
            if not job.has_pod or job.finished or job.closed or now < running_since(job) + RECORD_ANYWAY:
                continue
            if job.uid not in with_pods:
                self._state.note_pods_listed(job.uid, uid, now)

    def _live_tasks(self, key: TypeKey) -> list[AsyncTask]:
        live = sorted(self._admission.slots(key).live)
        return [task for uid in live if (task := self._state.tasks.get(uid)) is not None]

    def _is_due(self, task: AsyncTask, now: datetime) -> bool:
        """Return whether an attempt of a task is due for a check, or known from the status only."""
        if is_true(task.status.conditions, STUCK):
            return True
        jobs = [job for job in self._state.jobs_of(task.metadata.uid) if not job.finished]
        return not jobs or any(now >= self._first_check(job) for job in jobs)

    def _first_check(self, job: Execution) -> datetime:
        """Return when an attempt is first checked; later, as long as no pod of it is known."""
        known = job.has_pod or self._state.gone(job.uid) or self._state.pods_of(job.task_uid)
        return running_since(job) + (RECORD_AFTER if known else RECORD_ANYWAY)

    async def _refresh_node(self, name: str, now: datetime, max_age: timedelta) -> None:
        read_at = self._node_read_at.get(name)
        if read_at is not None and now - read_at <= max_age:
            return
        try:
            node = node_view(await self._client.get(NODES, None, name), now)
        except ApiError as error:
            if error.not_found:
                self._node_read_at[name] = now
                self._state.put_node(missing_node(name, now))
            else:
                logger.warning("failed to get Node %s: %s", name, error)
            return
        self._state.put_node(node)
        if node.out_of_service:
            self._node_read_at.pop(name, None)  # read at every check, to notice the removal of the taint
        else:
            self._node_read_at[name] = now

    async def _refresh_job(self, job: Execution) -> None:
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


def _needs_evidence(task: AsyncTask, now: datetime) -> bool:
    """Return whether the decision about a task depends on the current state of its Jobs and nodes."""
    lease = task.status.lease
    expired = lease is not None and lease.expire_time is not None and now >= lease.expire_time
    return expired or is_true(task.status.conditions, STUCK) or death_confirmation(task) is not None
