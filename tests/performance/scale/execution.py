"""Runs thousands of tasks on a control plane of its own, and judges how it went.

All tasks are there before the operator starts, so that their order can be judged.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from performance.environment import Environment
from performance.observer import Observer
from performance.progress import LIMIT_SECONDS, say
from performance.scale.operators import Operators
from performance.scale.timeline import Timeline
from performance.scale.verdict import order_violations, wrong_counts, wrong_ends
from performance.scale.workload import TASK_TYPE, Workload
from support.admin_api import JOBS, TASKS, TYPES, Body


@dataclass
class Run:
    """How one run went."""

    name: str
    seconds: float = 0
    creation_seconds: float = 0
    straggler_seconds: float = 0
    """The slot-seconds of the stragglers, each divided by the limit of its time."""
    max_running: dict[str, int] = field(default_factory=dict)
    order_violations: int = 0
    phases: dict[str, int] = field(default_factory=dict)
    shards: int = 0
    memory_mib: float = 0
    """The largest resident set of an operator."""
    cpu_seconds: float = 0
    """Of all operators together."""
    kills: int = 0
    wrong: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return what does not depend on the machine's speed, by the names of ``ranges.toml``."""
        return {
            **{phase.lower(): number for phase, number in self.phases.items()},
            "max_running_at_low_limit": self.max_running["low"],
            "max_running": self.max_running["high"],
            "order_violations": self.order_violations,
            "shards": self.shards,
            "kills": self.kills,
        }


async def run_workload(name: str, workload: Workload, directory: Path, *, kills: int = 0) -> Run:
    """Do a whole run on a fresh control plane.

    Args:
        name: what it is called where it is reported.
        workload: its tasks.
        directory: where the files of the control plane are.
        kills: how often the operator is killed, at equal distances.
    """
    run = Run(name)
    async with Environment.start(directory) as environment:
        execution = _Execution(run, workload, environment, await environment.new_namespace())
        await execution.create_tasks()
        try:
            await execution.drive(kills)
            await execution.judge()
        finally:
            execution.operators.stop()
    return run


class _Execution:
    def __init__(self, run: Run, workload: Workload, environment: Environment, namespace: str) -> None:
        self.operators = Operators(environment)
        self._run = run
        self._workload = workload
        self._api = environment.api
        self._namespace = namespace
        self._tasks, self._types = TASKS.format(namespace), TYPES.format(namespace)
        self._timeline = Timeline((), workload, 0)

    async def create_tasks(self) -> None:
        began = time.monotonic()
        await self._api.send("POST", self._types, self._workload.task_type())
        bodies = [self._workload.task(number) for number in range(self._workload.tasks)]
        await self._api.create(self._tasks, bodies)
        self._run.creation_seconds = time.monotonic() - began
        self._say(f"{self._workload.tasks} tasks created in {self._run.creation_seconds:.0f} s")

    async def drive(self, kills: int) -> None:
        """Start the operator, raise the limit in time, kill the operator at times, wait for the end."""
        tasks, raised_at = self._workload.tasks, 0
        stops = [("raise", self._workload.first_part)]
        stops += [("kill", (number + 1) * tasks // (kills + 1)) for number in range(kills)]
        async with Observer.watch(self._api, self._namespace, JOBS, TASKS) as observer:
            self.operators.start()
            for what, ended in sorted(stops, key=lambda stop: stop[1]):
                await observer.until_ended(TASKS, ended)
                if what == "raise":
                    raised_at = await self._raise_limit()
                else:
                    await asyncio.to_thread(self.operators.kill)
                self._say(f"{ended} of {tasks} have ended; {what}")
            await observer.until_ended(TASKS, tasks)
        self._timeline = Timeline(observer.jobs.values(), self._workload, raised_at)
        first = next(iter(observer.jobs.values()))
        self._run.seconds = max(observer.task_ends.values()) - first.created
        self._say(f"all have ended after {self._run.seconds:.0f} s")

    async def judge(self) -> None:
        """Compare what is there with what has to be, and record it."""
        run, workload, timeline = self._run, self._workload, self._timeline
        tasks = await self._api.all(self._tasks)
        task_type, wrong = await self._settled(tasks)
        self.operators.note_usage()
        run.wrong = [*wrong, *wrong_ends(workload, tasks)]
        run.phases = dict(Counter(task["status"]["phase"] for task in tasks))
        run.shards = task_type["status"].get("shards", {}).get("end", 0)
        run.max_running = timeline.most_at_once()
        run.order_violations = order_violations(tasks, timeline.first_starts())
        run.straggler_seconds = timeline.straggler_seconds()
        run.memory_mib = round(self.operators.memory_mib)
        run.cpu_seconds = round(self.operators.cpu_seconds, 1)
        run.kills = self.operators.kills
        limits = {"low": workload.low_limit, "high": workload.high_limit}
        run.wrong += [
            f"{most} attempts ran at once, and the limit was {limits[part]}"
            for part, most in run.max_running.items()
            if most > limits[part]
        ]
        if run.order_violations:
            run.wrong.append(f"{run.order_violations} starts were out of order")
        for line in run.wrong[:10]:
            self._say(f"WRONG: {line}")

    async def _raise_limit(self) -> int:
        """Raise the limit; return the API server's version in which it is raised."""
        patch = {"spec": {"maxConcurrent": self._workload.high_limit}}
        raised = await self._api.send("PATCH", f"{self._types}/{TASK_TYPE}", patch)
        return int(raised["metadata"]["resourceVersion"])

    async def _settled(self, tasks: list[Body]) -> tuple[Body, list[str]]:
        """Return the TaskType when its counts are right, or what is wrong with them after a while."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            task_type = await self._api.send("GET", f"{self._types}/{TASK_TYPE}")
            wrong = wrong_counts(self._workload, task_type, tasks)
            if not wrong or time.monotonic() > deadline:
                return task_type, wrong
            await asyncio.sleep(1)

    def _say(self, text: str) -> None:
        say(f"{self._run.name}: {text}")
