"""Measures asyncflow beside bare Jobs, and writes the figures down: ``make bench``."""

import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from clusters import versions
from performance import finished
from performance.bench import Bench
from performance.figures import Figures
from performance.latency import run_latency
from performance.sides import AsyncTasks, BareJobs
from performance.standing import empty, fill, start_operator
from performance.steps import Step, run_step
from performance.throughput import run_side
from support.measured import say

ROOT = Path(__file__).parents[2]
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
    """Go from a bare Job to all that an operator sends, one step after the other, and back, several times."""
    async with Bench.start(directory, kube_api_qps=QPS[Part.TUNED]) as bench:
        await run_step(bench, Step.ENVIRONMENT, min(WARM_UP, objects))
        for number in range(runs):
            for step in Step if number % 2 == 0 else reversed(Step):
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
        objects, runs = (60, 2) if short else (300, 9)
        await measure_steps(figures, directory, objects=objects, runs=runs)
    return figures


def written(figures: Figures, *, short: bool) -> dict[str, Any]:
    """Return what is written down."""
    return {
        **figures.summary(),
        "runs": figures.runs(),
        "cost": figures.cost(),
        "settings": {
            "kube_api_qps": {part.value: qps for part, qps in QPS.items()},
            "operator": operator_tree(),
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
    """Return new figures with those of other parts from an earlier run of the same operator, if there are."""
    if old.get("settings") != new["settings"]:
        return new
    return {**old, **new, "runs": {**old["runs"], **new["runs"]}, "cost": new["cost"] or old["cost"]}


def operator_tree() -> str:
    """Return which operator was measured: git's name for its folder, and whether that was changed."""
    try:
        tree = git("rev-parse", "--short", "HEAD:operator/asyncflow")
        return tree + (" changed" if git("status", "--porcelain", "operator/asyncflow") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def git(*arguments: str) -> str:
    """Return what git says of the project."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


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
    old = json.loads(out.read_text()) if part and out.exists() else {}
    figures = asyncio.run(measure(part or list(Part), ROOT / "build" / "bench", short=short))
    print(json.dumps(figures.summary(), indent=1))
    if figures.wrong:
        print("\n".join(figures.wrong[:20]), "nothing is written", sep="\n")
        sys.exit(1)
    content = beside(old, written(figures, short=short))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    typer.run(main)
