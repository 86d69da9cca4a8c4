"""What a task costs the control plane beyond a bare Job, one step at a time and without an operator.

Each step does all that the one before it did, and one thing more. What a task costs beyond the last step is
the operator's own, and what its being there costs the others.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from asyncflow.api.asynctask import AsyncTask
from asyncflow.api.tasktype import TaskType
from asyncflow.controller.clock import utc_now
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.attempt.manifest import attempt_job
from asyncflow.core.attempt.settings import AttemptSettings, effective_settings
from performance.bench.finished import ended
from performance.bench.sides import BareJobs
from performance.environment import Environment
from performance.objects import task_body, task_type_body
from performance.observer import ObservedJob, Observer
from performance.usage import cpu_seconds
from support.admin_api import JOBS, TASKS, AdminApi, Body

WRITERS = 8


class Step(IntEnum):
    """What is done for each object, all before it included."""

    BARE = 0
    TASK = 1
    STATUS = 2
    MANIFEST = 3
    ENVIRONMENT = 4

    @property
    def text(self) -> str:
        """What it is, for people."""
        return TEXTS[self]


TEXTS = {
    Step.BARE: "a bare Job",
    Step.TASK: "and its AsyncTask is created",
    Step.STATUS: "and its status written once, when the Job is complete",
    Step.MANIFEST: "and the Job is what the operator makes of it, but for the environment",
    Step.ENVIRONMENT: "and with the environment",
}


@dataclass(frozen=True)
class StepRun:
    """So many objects at one step."""

    step: Step
    objects: int
    cpu: Mapping[str, float]
    """CPU seconds by the name of a process."""


async def run_step(environment: Environment, step: Step, objects: int) -> StepRun:
    """Do what a step asks for so many objects; see what the control plane uses until the last; clean up.

    Raises:
        ExceptionGroup: a Job has ended and is not complete, or a request was refused.
    """
    namespace = await environment.new_namespace()
    pids = environment.control_plane.pids
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    await _Run(environment.api, namespace, step, objects).until_done()
    used = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    await environment.clean_up(namespace, TASKS, JOBS, objects=objects)
    return StepRun(step, objects, used)


class _Run:
    def __init__(self, api: AdminApi, namespace: str, step: Step, objects: int) -> None:
        self._api = api
        self._namespace = namespace
        self._step = step
        self._objects = objects
        self._tasks, self._jobs = TASKS.format(namespace), JOBS.format(namespace)
        self._complete: asyncio.Queue[str | None] = asyncio.Queue()
        self._settings = _attempt_settings()

    async def until_done(self) -> None:
        watching = Observer.watch(self._api, self._namespace, JOBS, on_job_end=self._note_end)
        async with watching as observer, asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write_statuses())
            await self._api.for_each(range(self._objects), self._create)
            await observer.until_ended(JOBS, self._objects)
            for _ in range(WRITERS):
                self._complete.put_nowait(None)

    async def _create(self, number: int) -> None:
        name = f"s-{number:06}"
        made = None
        if self._step >= Step.TASK:
            made = await self._api.send("POST", self._tasks, task_body(name))
        await self._api.send("POST", self._jobs, self._job(number, made))

    def _job(self, number: int, made: Body | None) -> Body:
        if made is None or self._step < Step.MANIFEST:
            return BareJobs().body(number)
        owner = AsyncTask.model_validate(made)
        job = attempt_job(owner, self._settings, AttemptId(1, 0, 1), now=utc_now())
        if self._step < Step.ENVIRONMENT:
            for container in job["spec"]["template"]["spec"]["containers"]:
                del container["env"]
        return job

    def _note_end(self, job: ObservedJob) -> None:
        if not job.succeeded:
            raise RuntimeError(f"Job {job.name} has ended and is not complete")
        self._complete.put_nowait(_task_of(job.name))

    async def _write_statuses(self) -> None:
        while (name := await self._complete.get()) is not None:
            if self._step >= Step.STATUS:
                await self._api.send("PATCH", f"{self._tasks}/{name}/status", ended(name))


def _task_of(job_name: str) -> str:
    return "s-" + job_name.split("-")[1]


def _attempt_settings() -> AttemptSettings:
    task, task_type = AsyncTask.model_validate(task_body("s")), TaskType.model_validate(task_type_body())
    settings = effective_settings(task, task_type)
    assert settings is not None
    return settings
