"""The two sides of the comparison: the same pod template, as bare Jobs and as AsyncTasks.

Each side says what is created, when it is done, and what has to be there afterwards: a side can't look good
by not doing the work.
"""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from performance.bench import READY_SECONDS, until
from support.admin_api import JOBS, PODS, TASKS, TYPES, AdminApi, Body

KIND = "bench"
TEMPLATE: Body = {
    "spec": {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": "none", "command": ["work"]}],
    }
}
"""A pod that ends with 0 as soon as it runs: kwok plays the kubelet."""


class Side(ABC):
    """One way to have so many pods run."""

    name: str
    path: str
    """Where the objects are created, with a place for the namespace."""

    async def prepare(self, api: AdminApi, namespace: str) -> None:  # noqa: B027
        """Make what the objects need."""

    @abstractmethod
    def body(self, number: int) -> Body:
        """Return the object to create."""

    @abstractmethod
    def done(self, body: Body) -> bool:
        """Tell whether an object's work is over and recorded."""

    @abstractmethod
    async def wrong(self, api: AdminApi, namespace: str, number: int) -> list[str]:
        """Return what is not as it has to be after so many objects are done."""


class BareJobs(Side):
    """Jobs as a person would write them."""

    name = "jobs"
    path = JOBS

    def body(self, number: int) -> Body:
        """Return a Job."""
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"b-{number:06}"},
            "spec": {"backoffLimit": 0, "template": TEMPLATE},
        }

    def done(self, body: Body) -> bool:
        """Tell whether the Job is complete."""
        return is_complete(body)

    async def wrong(self, api: AdminApi, namespace: str, number: int) -> list[str]:
        """Return which Jobs are not complete, or have other than one pod that succeeded."""
        jobs = await api.all(self.path.format(namespace))
        return [*_wrong_number(jobs, number, "Jobs"), *await _wrong_pods(api, namespace, jobs)]


class AsyncTasks(Side):
    """AsyncTasks of one type, with defaults for everything but the template; as many at once as there are."""

    name = "tasks"
    path = TASKS

    async def prepare(self, api: AdminApi, namespace: str) -> None:
        """Make the TaskType, and wait until the operator has tried its Job."""
        await api.send("POST", TYPES.format(namespace), task_type(maxConcurrent=100_000))

        async def is_ready() -> bool:
            kind = await api.send("GET", f"{TYPES.format(namespace)}/{KIND}")
            conditions = kind.get("status", {}).get("conditions", ())
            return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        await until(is_ready, seconds=READY_SECONDS)

    def body(self, number: int) -> Body:
        """Return an AsyncTask."""
        return task(f"b-{number:06}")

    def done(self, body: Body) -> bool:
        """Tell whether the task has succeeded."""
        return bool(body["status"]["phase"] == "Succeeded")

    async def wrong(self, api: AdminApi, namespace: str, number: int) -> list[str]:
        """Return which tasks lack something in status, history or lease, or have other than one Job."""
        tasks = await api.all(self.path.format(namespace))
        jobs = {job["metadata"]["name"]: job for job in await api.all(JOBS.format(namespace))}
        wrong = _wrong_number(tasks, number, "tasks") + _wrong_number(list(jobs.values()), number, "Jobs")
        for body in tasks:
            wrong += _wrong_task(body, jobs)
        return [*wrong, *await _wrong_pods(api, namespace, list(jobs.values()))]


def task_type(**spec: Any) -> Body:
    """Return the TaskType that the tasks are of."""
    return {
        "apiVersion": "asyncflow.dev/v1alpha1",
        "kind": "TaskType",
        "metadata": {"name": KIND},
        "spec": {"template": TEMPLATE, **spec},
    }


def task(name: str, **spec: Any) -> Body:
    """Return a task of that type."""
    return {
        "apiVersion": "asyncflow.dev/v1alpha1",
        "kind": "AsyncTask",
        "metadata": {"name": name},
        "spec": {"taskTypeName": KIND, **spec},
    }


def is_complete(job: Body) -> bool:
    """Tell whether a Job has its Complete condition."""
    conditions = job.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)


def _wrong_task(body: Body, jobs: dict[str, Body]) -> list[str]:
    name, status = body["metadata"]["name"], body["status"]
    attempts = status.get("attempts", [])
    if status["phase"] != "Succeeded" or len(attempts) != 1:
        return [f"{name} is {status['phase']} after {len(attempts)} attempts"]
    (attempt,) = attempts
    job = jobs.get(attempt["jobName"])
    checks = {
        "the attempt succeeded": attempt.get("outcome") == "Succeeded",
        "its node has said that it is over": attempt.get("proofOfDeath") == "Node",
        "it is on record from start to end": bool(attempt.get("startTime") and attempt.get("endTime")),
        "it has its Job": job is not None and job["metadata"]["uid"] == attempt.get("jobUid"),
        "its lease is given back": "lease" not in status,
        "the task says so": any(
            c["type"] == "Complete" and c["status"] == "True" for c in status.get("conditions", ())
        ),
        "its end is on record": "completionTime" in status,
        "it has a shard": isinstance(status.get("shard"), int),
    }
    return [f"{name}: it is not so that {what}" for what, holds in checks.items() if not holds]


def _wrong_number(bodies: list[Body], number: int, what: str) -> list[str]:
    return [] if len(bodies) == number else [f"{len(bodies)} {what}, and there have to be {number}"]


async def _wrong_pods(api: AdminApi, namespace: str, jobs: list[Body]) -> list[str]:
    wrong = [f"Job {job['metadata']['name']} is not complete" for job in jobs if not is_complete(job)]
    pods = await api.all(PODS.format(namespace))
    of_job = Counter(pod["metadata"]["ownerReferences"][0]["uid"] for pod in pods)
    ended = [pod for pod in pods if pod["status"]["phase"] == "Succeeded"]
    if len(ended) < len(pods):
        wrong.append(f"{len(pods) - len(ended)} of {len(pods)} pods have not succeeded")
    if len(of_job) != len(jobs) or any(number != 1 for number in of_job.values()):
        wrong.append(f"{len(jobs)} Jobs have {len(pods)} pods")
    return wrong
