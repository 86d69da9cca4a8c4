"""Measures asyncflow beside bare Jobs, and writes the figures down: ``make bench``."""

import asyncio
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import finished
from benchmarks.bench import Bench
from benchmarks.figures import Figures
from benchmarks.latency import run_latency
from benchmarks.sides import AsyncTasks, BareJobs
from benchmarks.standing import empty, fill, start_operator
from benchmarks.steps import Step, run_step
from benchmarks.throughput import run_side
from clusters import versions
from measured import say

ROOT = Path(__file__).parents[1]
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


QPS = {Part.TUNED: 5000, Part.DEFAULT: None}
"""Requests a second that the controller-manager allows itself; None: as it comes."""


async def compare(figures: Figures, bench: Bench, setting: str, *, objects: int, runs: int) -> None:
    """Run both sides in turn; begin with the other side each time."""
    jobs, tasks = BareJobs(), AsyncTasks()
    for side in (jobs, tasks):
        await run_side(bench, side, min(WARM_UP, objects // 5))
    pairs = figures.throughput.setdefault(setting, [])
    for number in range(runs):
        done = {}
        for side in (jobs, tasks) if number % 2 == 0 else (tasks, jobs):
            run = done[side.name] = await run_side(bench, side, objects)
            say(
                f"{setting}: {objects} {side.name}: {run.per_second:.1f} a second, "
                f"cleaned up after another {run.clean_seconds:.0f} s"
            )
        pairs.append((done["jobs"], done["tasks"]))


async def measure_latency(figures: Figures, directory: Path, *, tasks: int, runs: int) -> None:
    """Create tasks at a steady pace, several times."""
    async with Bench.start(directory, kube_api_qps=QPS[Part.TUNED]) as bench:
        for number in range(runs):
            figures.latencies.append(await run_latency(bench, tasks))
            say(f"latency: {number + 1} of {runs}")


async def measure_standing(
    figures: Figures, directory: Path, *, sizes: Sequence[int], runs: int, idle_seconds: float
) -> None:
    """Start the operator with more and more tasks there, several times each; stay long with the most."""
    async with Bench.start(directory, kube_api_qps=QPS[Part.TUNED]) as bench:
        for tasks in sizes:
            namespace = await fill(bench, tasks)
            stay = idle_seconds if tasks == max(sizes) else min(SHORT_STAY, idle_seconds)
            for _ in range(runs):
                start = await start_operator(bench, namespace, tasks, idle_seconds=stay)
                figures.standing.setdefault(tasks, []).append(start)
                say(
                    f"standing: {tasks} tasks: ready after {start.ready_seconds:.1f} s, "
                    f"{start.memory_kib} KiB, {start.idle_cpu_percent:.1f}% of a core"
                )
            await empty(bench.api, namespace)


async def measure_finished(
    figures: Figures, directory: Path, *, finished_tasks: int, objects: int, runs: int
) -> None:
    """Run tasks where none has ended before, and where many have."""
    async with Bench.start(directory, kube_api_qps=QPS[Part.TUNED]) as bench:
        await run_side(bench, AsyncTasks(), min(WARM_UP, objects))
        for there in (0, finished_tasks):
            if there:
                await finished.fill(bench, there)
            for _ in range(runs):
                run = await run_side(bench, AsyncTasks(), objects)
                figures.beside_finished.setdefault(there, []).append(run)
                say(f"finished: {run.per_second:.1f} tasks a second beside {there} that have ended")


async def measure_steps(figures: Figures, directory: Path, *, objects: int, runs: int) -> None:
    """Go from a bare Job to all that an operator sends, one step after the other, several times."""
    async with Bench.start(directory, kube_api_qps=QPS[Part.TUNED]) as bench:
        await run_step(bench, Step.ENVIRONMENT, min(WARM_UP, objects))
        for number in range(runs):
            for step in Step:
                figures.steps.setdefault(step, []).append(await run_step(bench, step, objects))
            say(f"steps: {number + 1} of {runs}")


async def measure(parts: Sequence[Part], directory: Path, *, short: bool) -> Figures:
    """Measure what is asked for."""
    figures, runs = Figures(), 2 if short else 3
    for part, objects in ((Part.TUNED, 300 if short else 1500), (Part.DEFAULT, 60 if short else 300)):
        if part in parts:
            async with Bench.start(directory, kube_api_qps=QPS[part]) as bench:
                await compare(figures, bench, part, objects=objects, runs=runs)
    if Part.LATENCY in parts:
        await measure_latency(figures, directory, tasks=100 if short else 600, runs=runs)
    if Part.STANDING in parts:
        sizes = (0, 1000) if short else (0, 1000, 10_000, 50_000)
        idle_seconds = 10 if short else 300  # a full list is in it
        await measure_standing(figures, directory, sizes=sizes, runs=runs, idle_seconds=idle_seconds)
    if Part.FINISHED in parts:
        there, objects = (2000, 100) if short else (20_000, 1500)
        await measure_finished(figures, directory, finished_tasks=there, objects=objects, runs=runs)
    if Part.STEPS in parts:
        objects, runs = (60, 2) if short else (300, 7)
        await measure_steps(figures, directory, objects=objects, runs=runs)
    return figures


def written(figures: Figures, *, short: bool) -> dict[str, Any]:
    """Return what is written down."""
    return {
        **figures.summary(),
        "wrong": figures.wrong,
        "runs": figures.runs(),
        "cost": figures.cost(),
        "settings": {
            "kube_api_qps": {part.value: qps for part, qps in QPS.items()},
            "short": short,
            "etcd_fsync": False,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "kubernetes": versions.kubernetes(),
            "kwok": versions.kwok(),
        },
    }


def beside(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return new figures with those of other parts that an earlier run has left, if it was fit and alike."""
    if old.get("wrong") or old.get("settings") != new["settings"]:
        return new
    grouped = {name: {**old.get(name, {}), **new[name]} for name in ("runs", "cost")}
    return {**old, **new, **grouped}


def main(
    part: Annotated[
        list[Part] | None,
        typer.Option(help="What to measure anew; may be given again. By default, all."),
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="Fewer objects, fewer runs: minutes.")] = False,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = ROOT / "build/bench.json",
) -> None:
    """Measure asyncflow beside bare Jobs on one control plane; write the figures as JSON."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it cleans up as after Ctrl-C
    figures = asyncio.run(measure(part or list(Part), ROOT / "build" / "bench", short=short))
    old = json.loads(out.read_text()) if part and out.exists() else {}
    content = beside(old, written(figures, short=short))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(figures.summary(), indent=1))
    print("\n".join(figures.wrong[:20]) or f"written to {out}")
    sys.exit(1 if figures.wrong else 0)


if __name__ == "__main__":
    typer.run(main)
