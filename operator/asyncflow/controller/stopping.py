"""Stops attempts before they end on their own."""

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.pod_reader import list_pods
from asyncflow.core.lifecycle.actions import CloseJob, StopJob
from asyncflow.core.lifecycle.outcome import STOP_NOT_STARTED
from asyncflow.kube.client import JOBS, PODS, ApiClient, ApiError, Body
from asyncflow.kube.queue import Requeue

TERMINAL_PHASES = ("Failed", "Succeeded")


class Stopper:
    """Stops attempts on their nodes, so that their pods remain as evidence."""

    def __init__(self, client: ApiClient, state: ClusterState) -> None:
        self._client = client
        self._state = state

    async def stop(self, task: AsyncTask, stop: StopJob) -> None:
        """Stop an attempt on its node, by a deadline on the pod itself.

        The pod then remains until its Job is deleted; a pod that the Job controller stops is deleted together
        with its evidence. A pod that is not bound to a node is deleted, on the condition that it is still
        unbound; this is recorded on the Job, which creates no other pod. A Job without a pod is stopped by
        its own deadline.

        Raises:
            Requeue: the pods have changed since the decision.
        """
        annotations = {names.STOP_REASON_ANNOTATION: stop.reason}
        if stop.message:
            annotations[names.STOP_MESSAGE_ANNOTATION] = stop.message[:512]
        body: Body = {"metadata": {"uid": stop.uid, "annotations": annotations}}
        pods = await list_pods(self._client, task.metadata.namespace, task.metadata.uid, stop.name)
        if stop.reason == STOP_NOT_STARTED and any(pod["status"].get("startTime") for pod in pods):
            for pod in pods:
                self._state.put_pod(pod)
            raise Requeue(f"pod of Job {stop.name} has started since the decision")
        bound = [pod for pod in pods if pod["spec"].get("nodeName")]
        if not bound:
            body["spec"] = {"activeDeadlineSeconds": 1}
        for pod in pods:
            if pod in bound and pod["status"].get("phase") not in TERMINAL_PHASES:
                await self._stop_on_node(task, pod)
            elif pod not in bound:
                await self._delete_unbound(task, pod)
                annotations[names.NEVER_BOUND_ANNOTATION] = pod["metadata"]["uid"]
        await self._end_job(task, stop.name, body, never_ran=not pods)

    async def close(self, task: AsyncTask, close: CloseJob) -> None:
        """Prevent another pod of a Job; its attempt is proven dead without a report from its node."""
        annotations = {names.STOP_REASON_ANNOTATION: close.reason}
        body: Body = {
            "metadata": {"uid": close.uid, "annotations": annotations},
            "spec": {"activeDeadlineSeconds": 1},
        }
        await self._end_job(task, close.name, body, never_ran=False)

    async def _stop_on_node(self, task: AsyncTask, pod: Body) -> None:
        meta = pod["metadata"]
        body = {"metadata": {"uid": meta["uid"]}, "spec": {"activeDeadlineSeconds": 1}}
        try:
            await self._client.patch(PODS, task.metadata.namespace, meta["name"], body)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise

    async def _delete_unbound(self, task: AsyncTask, pod: Body) -> None:
        """Delete a pod that is not bound; a pod that is being deleted will not be bound any more."""
        meta = pod["metadata"]
        if "deletionTimestamp" in meta:
            return
        try:
            await self._client.delete(
                PODS, task.metadata.namespace, meta["name"], uid=meta["uid"], version=meta["resourceVersion"]
            )
        except ApiError as error:
            if error.conflict:
                raise Requeue(f"pod {meta['name']} has changed and may be bound to a node") from error
            if not error.not_found:
                raise
            raise Requeue(f"pod {meta['name']} was deleted meanwhile") from error

    async def _end_job(self, task: AsyncTask, name: str, body: Body, *, never_ran: bool) -> None:
        """Patch a Job, unless it is gone or another one of this name; delete it if it is suspended."""
        try:
            job = await self._client.patch(JOBS, task.metadata.namespace, name, body)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
            return
        self._state.put_job(job)
        if job["spec"].get("suspend"):
            await self._delete_suspended(task, job, never_ran=never_ran)

    async def _delete_suspended(self, task: AsyncTask, job: Body, *, never_ran: bool) -> None:
        """Delete a suspended Job, on the condition that it is still suspended: its deadline does not run.

        Args:
            task: its task.
            job: the Job, as it was patched.
            never_ran: whether no pod of it was found; it creates none as long as it is suspended.
        """
        meta = job["metadata"]
        try:
            await self._client.delete(
                JOBS, task.metadata.namespace, meta["name"], uid=meta["uid"], version=meta["resourceVersion"]
            )
        except ApiError as error:
            if error.not_found:
                return
            if error.conflict:
                raise Requeue(f"Job {meta['name']} has changed and may not be suspended any more") from error
            raise
        if never_ran:
            self._state.note_never_ran(meta["uid"])
