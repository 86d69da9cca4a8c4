"""Measures this tree's operator beside that of another commit, in turn, on one control plane.

Each round runs both; which one goes first changes from round to round. A ratio is the median of the rounds'
ratios, this tree ÷ base.
"""

import asyncio
import io
import shutil
import statistics
import subprocess
import tarfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from performance.bench.latency import quantiles, run_latency
from performance.bench.parts import WARM_UP
from performance.bench.sides import AsyncTasks
from performance.bench.standing import empty, fill, start_operator
from performance.bench.throughput import run_side
from performance.environment import OPERATOR, Environment
from performance.progress import say
from support.operator_process import ROOT, install

Figures = dict[str, float]


class Part(StrEnum):
    """A part of the comparison."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"
    STANDING = "standing"


@dataclass(frozen=True)
class Amounts:
    """How much is measured."""

    rounds: int
    objects: int
    tasks: int
    """How many tasks wait while the operator starts."""
    idle_seconds: float


async def compare(parts: Sequence[Part], base: str, directory: Path, amounts: Amounts) -> dict[str, Any]:
    """Measure what is asked for of this tree's operator and of that of the commit `base`.

    Both trees are copied beside `directory`, where the control plane's files are.

    Raises:
        subprocess.CalledProcessError: git does not know the commit.
    """
    base_tree = _checked_out(base, directory.with_name(f"{directory.name}-base"))
    new_tree = _copied(directory.with_name(f"{directory.name}-new"))
    figures: dict[str, Any] = {}
    async with Environment.start(directory) as environment:
        base_side, new_side = (replace(environment, tree=tree) for tree in (base_tree, new_tree))
        pair = _Pair(base_side, new_side, amounts.rounds)
        if Part.THROUGHPUT in parts:
            for operator in (pair.base, pair.new):
                await run_side(operator, AsyncTasks(), min(WARM_UP, amounts.objects))
            figures |= await pair.in_turn(lambda operator: _throughput(operator, amounts.objects))
        if Part.LATENCY in parts:
            figures |= await pair.in_turn(lambda operator: _latency(operator, amounts.objects // 3))
        if Part.STANDING in parts:
            for there in (0, amounts.tasks):
                figures |= await _standing(pair, there, amounts.idle_seconds if there else 10)
    return figures


@dataclass(frozen=True)
class _Pair:
    base: Environment
    new: Environment
    rounds: int

    async def in_turn(self, measure: Callable[[Environment], Awaitable[Figures]]) -> dict[str, Any]:
        """Measure both in turn; return each figure's values and ratios."""
        found: dict[str, list[Figures]] = {"base": [], "new": []}
        for number in range(self.rounds):
            sides = [("base", self.base), ("new", self.new)]
            for name, environment in sides if number % 2 == 0 else reversed(sides):
                await asyncio.to_thread(install, environment.control_plane, environment.tree)
                figures = await measure(environment)
                found[name].append(figures)
                say(f"{name}: " + ", ".join(f"{what} {value:.2f}" for what, value in figures.items()))
        return {what: _described(what, found["base"], found["new"]) for what in found["new"][0]}


def _described(what: str, base: Sequence[Figures], new: Sequence[Figures]) -> dict[str, Any]:
    ratios = [b[what] / a[what] for a, b in zip(base, new, strict=True) if a[what]]
    return {
        "base": [round(run[what], 3) for run in base],
        "new": [round(run[what], 3) for run in new],
        "ratio": round(statistics.median(ratios), 3) if ratios else None,
    }


async def _throughput(environment: Environment, objects: int) -> Figures:
    """Run short tasks, as many at once as there are."""
    run = await run_side(environment, AsyncTasks(), objects)
    _raise_if(run.wrong)
    return {
        "tasks_per_second": run.per_second,
        "operator_cpu_ms_per_task": 1000 * run.used.cpu[OPERATOR] / objects,
    }


async def _latency(environment: Environment, objects: int) -> Figures:
    """Create tasks at a steady pace."""
    run = await run_latency(environment, objects)
    _raise_if(run.wrong)
    return {name: value for name, (value,) in quantiles([run]).items()}


async def _standing(pair: _Pair, tasks: int, idle_seconds: float) -> dict[str, Any]:
    """Start the operator where many tasks wait."""
    namespace = await fill(pair.new, tasks)

    async def start(environment: Environment) -> Figures:
        start = await start_operator(environment, namespace, tasks, idle_seconds=idle_seconds)
        return {
            "ready_seconds": start.ready_seconds,
            "counted_seconds": start.counted_seconds,
            "memory_kib": start.memory_kib,
            "idle_cpu_percent": start.idle_cpu_percent,
        }

    found = await pair.in_turn(start)
    await empty(pair.new.api, namespace)
    return {f"{what}_with_{tasks}": values for what, values in found.items()}


def _raise_if(wrong: Sequence[str]) -> None:
    if wrong:
        raise RuntimeError("\n".join(wrong[:20]))


def _checked_out(commit: str, directory: Path) -> Path:
    """Write the tree of a commit into a directory; return it."""
    shutil.rmtree(directory, ignore_errors=True)
    content = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(directory, filter="data")
    return directory


def _copied(directory: Path) -> Path:
    """Copy what is measured of this tree, which may change meanwhile, into a directory; return it."""
    shutil.rmtree(directory, ignore_errors=True)
    for name in ("operator", "crds", "deploy"):
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    return directory
