"""Reads the pods of Jobs, as evidence about the end of attempts."""

from collections.abc import Callable
from datetime import datetime

from asyncflow.api import names
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.core.views.execution import Execution
from asyncflow.kube.client import JOBS, PODS, ApiClient, ApiError, Body


async def list_pods(client: ApiClient, namespace: str, task_uid: str, job_name: str) -> list[Body]:
    """List the pods of a Job."""
    selector = f"{names.TASK_UID_LABEL}={task_uid},batch.kubernetes.io/job-name={job_name}"
    return (await client.list(PODS, namespace, labels=selector)).items


class PodReader:
    """Reads the pods of Jobs into the cluster state."""

    def __init__(self, client: ApiClient, state: ClusterState, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._state = state
        self._clock = clock

    async def read(self, namespace: str, task_uid: str, job_name: str, job_uid: str) -> None:
        """Read the pods of a Job.

        Without a pod, a Job that is being deleted never had one if it still exists after the list: it could
        create none any more, and after its deletion the same list would prove nothing.

        Raises:
            ApiError, ApiUnreachable: a request failed.
        """
        job = self._state.jobs.get(job_uid)
        deleting = job is not None and job.deleting and not job.finished
        pods = await list_pods(self._client, namespace, task_uid, job_name)
        for body in pods:
            self._state.put_pod(body)
        existing = {body["metadata"]["uid"] for body in pods}
        if deleting and not existing and not await self._exists(namespace, job_name, job_uid):
            self._state.drop_job(job_uid)
            deleting = False
        self._state.note_pods_listed(job_uid, task_uid, self._clock(), existing, job_deleting=deleting)

    async def read_of_deleted(self, task_uid: str) -> None:
        """Read the pods of a deleted task's Jobs that are being deleted, if their attempts hold a lock."""
        holders = {lock.attempt_number for lock in self._state.locks_of(task_uid)}
        for job in self._state.jobs_of(task_uid):
            if job.attempt.number in holders and self._needs_read(job):
                await self.read(job.namespace, task_uid, job.name, job.uid)

    def _needs_read(self, job: Execution) -> bool:
        known = any(pod.job_uid == job.uid for pod in self._state.pods_of(job.task_uid))
        listed = self._state.pods_listed(job.uid)
        return job.deleting and not (job.finished or job.has_pod or known or listed)

    async def _exists(self, namespace: str, job_name: str, job_uid: str) -> bool:
        try:
            body = await self._client.get(JOBS, namespace, job_name)
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return bool(body["metadata"]["uid"] == job_uid)
