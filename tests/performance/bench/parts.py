"""The parts of ``make bench``: how many objects each measures, how often, and on which control plane."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from performance.bench import finished
from performance.bench.figures import Figures
from performance.bench.latency import run_latency
from performance.bench.sides import AsyncTasks, BareJobs
from performance.bench.standing import empty, fill, start_operator
from performance.bench.steps import Step, run_step
from performance.bench.throughput import run_side
from performance.environment import TUNED_QPS, Environment
from performance.progress import say

WARM_UP = 100
"""Objects of each side that are done before anything is measured."""
SHORT_STAY = 30.0
"""Seconds for which an operator is watched when it has little to do."""


class Part(StrEnum):
    """A part of the measurement."""

    TUNED = "tuned"
    DEFAULT = "default"
    LATENCY = "latency"
    STANDING = "standing"
    FINISHED = "finished"
    STEPS = "steps"


QPS = {Part.TUNED: TUNED_QPS, Part.DEFAULT: None}
"""Requests a second that the controller-manager allows itself; None: as it comes."""


async def measure(parts: Sequence[Part], directory: Path, *, short: bool) -> Figures:
    """Measure what is asked for, each part on a control plane of its own in a directory.

    Args:
        parts: what is measured.
        directory: where the control planes' files are.
        short: take fewer objects and fewer runs.
    """
    figures, runs = Figures(), 2 if short else 3
    for part in (part for part in Part if part in parts):
        async with Environment.start(directory, kube_api_qps=QPS.get(part, TUNED_QPS)) as environment:
            match part:
                case Part.TUNED:
                    await compare(figures, environment, part, objects=300 if short else 1500, runs=runs)
                case Part.DEFAULT:
                    await compare(figures, environment, part, objects=60 if short else 300, runs=runs)
                case Part.LATENCY:
                    await _latency(figures, environment, tasks=100 if short else 600, runs=runs)
                case Part.STANDING:
                    sizes = (0, 1000) if short else (0, 1000, 10_000, 50_000)
                    idle_seconds = 10 if short else 300  # a full list is in it
                    await _standing(figures, environment, sizes=sizes, runs=runs, idle_seconds=idle_seconds)
                case Part.FINISHED:
                    ended, objects = (2000, 100) if short else (20_000, 1500)
                    await _finished(figures, environment, ended=ended, objects=objects, runs=runs)
                case Part.STEPS:
                    objects, rounds = (60, 2) if short else (300, 9)
                    await _steps(figures, environment, objects=objects, rounds=rounds)
    return figures


async def compare(
    figures: Figures, environment: Environment, setting: str, *, objects: int, runs: int
) -> None:
    """Run both sides in turn; begin with the other side each time."""
    jobs, tasks = BareJobs(), AsyncTasks()
    for side in (jobs, tasks):
        await run_side(environment, side, min(WARM_UP, objects // 5))
    pairs = figures.throughput.setdefault(setting, [])
    for number in range(runs):
        done = {}
        for side in (jobs, tasks) if number % 2 == 0 else (tasks, jobs):
            run = done[side.name] = await run_side(environment, side, objects)
            say(
                f"{setting}: {objects} {side.name}: {run.per_second:.1f} a second, "
                f"cleaned up after another {run.clean_seconds:.0f} s"
            )
        pairs.append((done["jobs"], done["tasks"]))


async def _latency(figures: Figures, environment: Environment, *, tasks: int, runs: int) -> None:
    """Create tasks at a steady pace, several times."""
    for number in range(runs):
        figures.latencies.append(await run_latency(environment, tasks))
        say(f"latency: {number + 1} of {runs}")


async def _standing(
    figures: Figures, environment: Environment, *, sizes: Sequence[int], runs: int, idle_seconds: float
) -> None:
    """Start the operator with more and more tasks there, several times each; stay long with the most."""
    for tasks in sizes:
        namespace = await fill(environment, tasks)
        stay = idle_seconds if tasks == max(sizes) else min(SHORT_STAY, idle_seconds)
        for _ in range(runs):
            start = await start_operator(environment, namespace, tasks, idle_seconds=stay)
            figures.standing.setdefault(tasks, []).append(start)
            say(
                f"standing: {tasks} tasks: ready after {start.ready_seconds:.1f} s, "
                f"{start.memory_kib} KiB, {start.idle_cpu_percent:.1f}% of a core"
            )
        await empty(environment.api, namespace)


async def _finished(
    figures: Figures, environment: Environment, *, ended: int, objects: int, runs: int
) -> None:
    """Run tasks where none has ended before, and where many have."""
    await run_side(environment, AsyncTasks(), min(WARM_UP, objects))
    for there in (0, ended):
        if there:
            await finished.fill(environment, there)
        for _ in range(runs):
            run = await run_side(environment, AsyncTasks(), objects)
            figures.beside_finished.setdefault(there, []).append(run)
            say(f"finished: {run.per_second:.1f} tasks a second beside {there} that have ended")


async def _steps(figures: Figures, environment: Environment, *, objects: int, rounds: int) -> None:
    """Go from a bare Job to all that an operator sends, one step after the other, and back, several times."""
    await run_step(environment, Step.ENVIRONMENT, min(WARM_UP, objects))
    for number in range(rounds):
        for step in Step if number % 2 == 0 else reversed(Step):
            figures.steps.setdefault(step, []).append(await run_step(environment, step, objects))
        say(f"steps: {number + 1} of {rounds}")
