"""Measures this tree's operator beside that of another commit, in turn, on one control plane.

``make bench-compare BASE=<commit>``. Each round runs both; which one goes first changes from round to round.
A ratio is the median of the rounds' ratios, this tree ÷ base.
"""

import asyncio
import io
import json
import shutil
import signal
import statistics
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from performance.bench import OPERATOR, Bench
from performance.latency import quantile, run_latency
from performance.sides import AsyncTasks
from performance.standing import empty, fill, start_operator
from performance.throughput import run_side
from support.measured import say
from support.operator_process import install

ROOT = Path(__file__).parents[2]
WARM_UP = 100
KUBE_API_QPS = 5000

Figures = dict[str, float]


class Part(StrEnum):
    """A part of the measurement."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"
    STANDING = "standing"


async def throughput(bench: Bench, objects: int) -> Figures:
    """Run short tasks, as many at once as there are."""
    run = await run_side(bench, AsyncTasks(), objects)
    if run.wrong:
        raise RuntimeError("\n".join(run.wrong[:20]))
    return {
        "tasks_per_second": run.per_second,
        "operator_cpu_ms_per_task": 1000 * run.used.cpu[OPERATOR] / objects,
    }


async def latency(bench: Bench, objects: int) -> Figures:
    """Create tasks at a steady pace."""
    run = await run_latency(bench, objects)
    if run.wrong:
        raise RuntimeError("\n".join(run.wrong[:20]))
    return {
        f"{name}_{word}_ms": quantile(getattr(run, name), share)
        for name in ("create_to_job", "end_to_succeeded")
        for share, word in ((0.5, "median"), (0.99, "p99"))
    }


async def standing(bench: Bench, *, namespace: str, tasks: int, idle_seconds: float) -> Figures:
    """Start the operator where many tasks wait."""
    start = await start_operator(bench, namespace, tasks, idle_seconds=idle_seconds)
    return {
        "ready_seconds": start.ready_seconds,
        "counted_seconds": start.counted_seconds,
        "memory_kib": start.memory_kib,
        "idle_cpu_percent": start.idle_cpu_percent,
    }


async def in_turn(base: Bench, new: Bench, rounds: int, measure: Callable[[Bench], Any]) -> dict[str, Any]:
    """Measure both in turn; return each figure's values and ratios."""
    found: dict[str, list[Figures]] = {"base": [], "new": []}
    for number in range(rounds):
        sides = [("base", base), ("new", new)]
        for name, bench in sides if number % 2 == 0 else reversed(sides):
            await asyncio.to_thread(install, bench.control_plane, bench.tree)
            figures: Figures = await measure(bench)
            found[name].append(figures)
            say(f"{name}: " + ", ".join(f"{what} {value:.2f}" for what, value in figures.items()))
    return {
        what: {
            "base": [round(run[what], 3) for run in found["base"]],
            "new": [round(run[what], 3) for run in found["new"]],
            "ratio": round(
                statistics.median(
                    b[what] / a[what] for a, b in zip(found["base"], found["new"], strict=True) if a[what]
                ),
                3,
            ),
        }
        for what in found["new"][0]
    }


async def compare(
    parts: Sequence[Part],
    base_tree: Path,
    new_tree: Path,
    *,
    rounds: int,
    objects: int,
    tasks: int,
    idle_seconds: float,
) -> dict[str, Any]:
    """Measure what is asked for."""
    figures: dict[str, Any] = {}
    async with Bench.start(ROOT / "build" / "compare", kube_api_qps=KUBE_API_QPS) as bench:
        base, new = replace(bench, tree=base_tree), replace(bench, tree=new_tree)
        if Part.THROUGHPUT in parts:
            for side in (base, new):
                await run_side(side, AsyncTasks(), min(WARM_UP, objects))
            figures |= await in_turn(base, new, rounds, lambda bench: throughput(bench, objects))
        if Part.LATENCY in parts:
            figures |= await in_turn(base, new, rounds, lambda bench: latency(bench, objects // 3))
        if Part.STANDING in parts:
            for there in (0, tasks):
                namespace = await fill(new, there)
                stay = idle_seconds if there else 10
                measure = partial(standing, namespace=namespace, tasks=there, idle_seconds=stay)
                found = await in_turn(base, new, rounds, measure)
                figures |= {f"{what}_with_{there}": values for what, values in found.items()}
                await empty(new.api, namespace)
    return figures


def checked_out(commit: str, directory: Path) -> Path:
    """Write the tree of a commit into a directory; return it.

    Raises:
        subprocess.CalledProcessError: git does not know the commit.
    """
    shutil.rmtree(directory, ignore_errors=True)
    content = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(directory, filter="data")
    return directory


def copied(directory: Path) -> Path:
    """Copy what is measured of this tree, which may change meanwhile, into a directory; return it."""
    shutil.rmtree(directory, ignore_errors=True)
    for name in ("operator", "crds", "deploy"):
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


def main(
    base: Annotated[str, typer.Argument(help="The commit to measure beside.")],
    part: Annotated[
        list[Part] | None, typer.Option(help="What to measure; may be given again. By default, all.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often each operator is measured.")] = 3,
    objects: Annotated[int, typer.Option(help="Tasks of a run.")] = 900,
    tasks: Annotated[int, typer.Option(help="Tasks that wait while the operator starts.")] = 50_000,
    idle_seconds: Annotated[float, typer.Option(help="How long an idle operator is watched.")] = 60,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = ROOT / "build/compare.json",
) -> None:
    """Measure this operator beside that of another commit; write the figures as JSON."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it cleans up as after Ctrl-C
    base_tree = checked_out(base, ROOT / "build" / "compare-base")
    new_tree = copied(ROOT / "build" / "compare-new")
    figures = asyncio.run(
        compare(
            part or list(Part),
            base_tree,
            new_tree,
            rounds=rounds,
            objects=objects,
            tasks=tasks,
            idle_seconds=idle_seconds,
        )
    )
    old = json.loads(out.read_text()) if part and out.exists() else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**old, **figures}, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    typer.run(main)
