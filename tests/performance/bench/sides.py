"""The two sides of the comparison: the same pod template, as bare Jobs and as AsyncTasks.

Each side says what is created, and what has to be there afterwards: a side can't look good by not doing the
work.
"""

from abc import ABC, abstractmethod

from performance.bench.checks import wrong_number, wrong_pods, wrong_task
from performance.objects import TASK_TYPE, TEMPLATE, task_body, task_type_body
from performance.observer import has_condition
from performance.progress import until
from support.admin_api import JOBS, TASKS, TYPES, AdminApi, Body


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
    async def wrong(self, api: AdminApi, namespace: str, number: int) -> list[str]:
        """Return what is not as it has to be after so many objects have ended."""


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

    async def wrong(self, api: AdminApi, namespace: str, number: int) -> list[str]:
        """Return which Jobs are not complete, or have other than one pod that succeeded."""
        jobs = await api.all(self.path.format(namespace))
        return [*wrong_number(jobs, number, "Jobs"), *await wrong_pods(api, namespace, jobs)]


class AsyncTasks(Side):
    """AsyncTasks of one type, with defaults for everything but the template; as many at once as there are."""

    name = "tasks"
    path = TASKS

    async def prepare(self, api: AdminApi, namespace: str) -> None:
        """Make the TaskType, and wait until the operator has tried its Job."""
        await api.send("POST", TYPES.format(namespace), task_type_body(maxConcurrent=100_000))

        async def is_ready() -> bool:
            return has_condition(await api.send("GET", f"{TYPES.format(namespace)}/{TASK_TYPE}"), "Ready")

        await until(is_ready)

    def body(self, number: int) -> Body:
        """Return an AsyncTask."""
        return task_body(f"b-{number:06}")

    async def wrong(self, api: AdminApi, namespace: str, number: int) -> list[str]:
        """Return which tasks lack something in status, history or lease, or have other than one Job."""
        tasks = await api.all(self.path.format(namespace))
        jobs = {job["metadata"]["name"]: job for job in await api.all(JOBS.format(namespace))}
        wrong = wrong_number(tasks, number, "tasks") + wrong_number(list(jobs.values()), number, "Jobs")
        for body in tasks:
            wrong += wrong_task(body, jobs)
        return [*wrong, *await wrong_pods(api, namespace, list(jobs.values()))]
