"""How an attempt is ended from outside."""

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.core.lifecycle.actions import CloseJob, StopJob
from asyncflow.core.lifecycle.outcome import STOP_NOT_STARTED
from asyncflow.kube.client import JOBS, PODS, ApiClient, ApiError, Body
from asyncflow.kube.queue import Requeue

ENDED = ("Failed", "Succeeded")


class Stopper:
    """Stops attempts at their nodes, so that their pods stay as witnesses."""

    def __init__(self, client: ApiClient, state: ClusterState) -> None:
        self._client = client
        self._state = state

    async def stop(self, task: AsyncTask, stop: StopJob) -> None:
        """End an attempt at its node, by the pod's own deadline.

        So its pod stays until its Job is deleted; a pod that the Job controller stops is deleted with all
        that it could tell. A pod that no node has is deleted, on the condition that it is still so: that is
        put on record on the Job, which makes no other. A Job without a pod is stopped by its own deadline.

        Raises:
            Requeue: what was known of its pods is out of date.
        """
        annotations = {names.STOP_REASON_ANNOTATION: stop.reason}
        if stop.message:
            annotations[names.STOP_MESSAGE_ANNOTATION] = stop.message[:512]
        body: Body = {"metadata": {"uid": stop.uid, "annotations": annotations}}
        pods = await self.pods(task, stop.name)
        if stop.reason == STOP_NOT_STARTED and any(pod["status"].get("startTime") for pod in pods):
            for pod in pods:
                self._state.put_pod(pod)
            raise Requeue(f"{stop.name} has started after all")
        bound = [pod for pod in pods if pod["spec"].get("nodeName")]
        if not bound:
            body["spec"] = {"activeDeadlineSeconds": 1}
        for pod in pods:
            if pod in bound and pod["status"].get("phase") not in ENDED:
                await self._end_at_its_node(task, pod)
            elif pod not in bound:
                await self._delete_unbound(task, pod)
                annotations[names.NEVER_BOUND_ANNOTATION] = pod["metadata"]["uid"]
        await self._patch_job(task, stop.name, body)

    async def close(self, task: AsyncTask, close: CloseJob) -> None:
        """See that a Job makes no other pod: its death is proven from outside, no node will tell."""
        annotations = {names.STOP_REASON_ANNOTATION: close.reason}
        body: Body = {
            "metadata": {"uid": close.uid, "annotations": annotations},
            "spec": {"activeDeadlineSeconds": 1},
        }
        await self._patch_job(task, close.name, body)

    async def pods(self, task: AsyncTask, job_name: str) -> list[Body]:
        """Read the pods of a Job."""
        selector = f"{names.TASK_UID_LABEL}={task.metadata.uid},batch.kubernetes.io/job-name={job_name}"
        return (await self._client.list(PODS, task.metadata.namespace, labels=selector)).items

    async def _end_at_its_node(self, task: AsyncTask, pod: Body) -> None:
        meta = pod["metadata"]
        body = {"metadata": {"uid": meta["uid"]}, "spec": {"activeDeadlineSeconds": 1}}
        try:
            await self._client.patch(PODS, task.metadata.namespace, meta["name"], body)
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise

    async def _delete_unbound(self, task: AsyncTask, pod: Body) -> None:
        """Delete a pod that no node has; one that is being deleted is not bound any more."""
        meta = pod["metadata"]
        if "deletionTimestamp" in meta:
            return
        try:
            await self._client.delete(
                PODS, task.metadata.namespace, meta["name"], uid=meta["uid"], version=meta["resourceVersion"]
            )
        except ApiError as error:
            if error.conflict:
                raise Requeue(f"pod {meta['name']} has changed: it may have a node by now") from error
            if not error.not_found:
                raise
            raise Requeue(f"pod {meta['name']} went away just now") from error

    async def _patch_job(self, task: AsyncTask, name: str, body: Body) -> None:
        try:
            self._state.put_job(await self._client.patch(JOBS, task.metadata.namespace, name, body))
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
