"""Runs thousands of tasks on a control plane of its own, twice, and writes down how it went.

Once without stragglers, and once with them and with an operator that is killed three times. All tasks are
there before the operator starts, so that their order can be told.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from clusters.controlplane import ControlPlane
from performance.scale.observer import Attempt, Observer
from performance.scale.verdict import order_violations, wrong_counts, wrong_ends
from performance.scale.workload import KIND, Workload
from support.admin_api import JOBS, TASKS, TYPES, AdminApi
from support.measured import Memory, cpu_seconds, memory_kib, say
from support.operator_process import OperatorProcess, install, kubeconfig_of_operator

ROOT = Path(__file__).parents[3]
NAMESPACE = "scale"
PER_TASK_LIMIT = 0.3
"""Seconds for each task after which a run is given up."""
SETTLED_SECONDS = 60
RATIO_MAX = 1.10


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


@dataclass
class Operators:
    """The operator, and those that came before it."""

    kubeconfig: Path
    log: Path
    memory_mib: float = 0
    cpu_seconds: float = 0
    kills: int = 0
    _process: OperatorProcess | None = None

    def start(self) -> None:
        """Start an operator that nobody has known before."""
        identity = f"scale-{uuid4().hex[:8]}"
        self._process = OperatorProcess(
            self.kubeconfig,
            self.log,
            ASYNCFLOW_IDENTITY=identity,
            ASYNCFLOW_SPLIT_SECONDS="2",
            ASYNCFLOW_STUCK_SECONDS="10",
            ASYNCFLOW_ROLL_SECONDS="10",
            ASYNCFLOW_REQUEST_SECONDS="10",
        )
        self._process.start(wait=False)

    def wait_ready(self) -> None:
        """Wait until it works."""
        assert self._process is not None
        self._process.wait_ready(300)

    def kill(self) -> None:
        """End it without a word, and start another."""
        self.kills += 1
        self.note()
        assert self._process is not None
        self._process.kill()
        self.start()

    def note(self) -> None:
        """Take down what the present one has used."""
        assert self._process is not None
        self.cpu_seconds += cpu_seconds(self._process.pid)
        self.memory_mib = max(self.memory_mib, memory_kib(self._process.pid, Memory.PEAK) / 1024)

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.stop()


async def one_run(name: str, workload: Workload, directory: Path, *, kills: int = 0) -> Run:
    """Do a whole run on a fresh control plane."""
    run = Run(name)
    with ControlPlane.start(directory / "control-plane") as control_plane:
        install(control_plane)
        control_plane.kubectl("create", "namespace", NAMESPACE)
        operators = Operators(
            kubeconfig_of_operator(control_plane, directory / "operator.kubeconfig"),
            directory / "operator.log",
        )
        async with AdminApi(control_plane) as api:
            began = time.monotonic()
            await api.send("POST", TYPES.format(NAMESPACE), workload.kind())
            bodies = [workload.task(number) for number in range(workload.tasks)]
            await api.create(TASKS.format(NAMESPACE), bodies)
            run.creation_seconds = time.monotonic() - began
            say(f"{name}: {workload.tasks} tasks created in {run.creation_seconds:.0f} s")
            observer = Observer(api, NAMESPACE)
            try:
                async with _observing(observer):
                    await _drive(run, workload, observer, operators, kills)
                await _judge(run, workload, observer, operators)
            finally:
                operators.stop()
    return run


@asynccontextmanager
async def _observing(observer: Observer) -> AsyncIterator[None]:
    tasks = []
    for path, watch in ((JOBS, observer.watch_jobs), (TASKS, observer.watch_tasks)):
        tasks.append(asyncio.create_task(watch(await observer.api.version(path.format(NAMESPACE)))))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(error, Exception):
                raise error


async def _drive(run: Run, workload: Workload, observer: Observer, operators: Operators, kills: int) -> None:
    """Start the operator, raise the limit when it is time, kill the operator at times, wait for the end."""
    limit = 120 + PER_TASK_LIMIT * workload.tasks
    stops = [("raise", workload.first_part)]
    stops += [("kill", (number + 1) * workload.tasks // (kills + 1)) for number in range(kills)]
    operators.start()
    for what, ended in sorted(stops, key=lambda stop: stop[1]):
        await observer.until_ended(ended, seconds=limit)
        if what == "raise":
            patch = {"spec": {"maxConcurrent": workload.high_limit}}
            path = f"{TYPES.format(NAMESPACE)}/{KIND}"
            observer.raised_at = int(
                (await observer.api.send("PATCH", path, patch))["metadata"]["resourceVersion"]
            )
        else:
            await asyncio.to_thread(operators.kill)
        say(f"{run.name}: {ended} of {workload.tasks} have ended; {what}")
    await observer.until_ended(workload.tasks, seconds=limit)
    run.seconds = observer.ended_time - observer.order[0].began
    say(f"{run.name}: all have ended after {run.seconds:.0f} s")


async def _judge(run: Run, workload: Workload, observer: Observer, operators: Operators) -> None:
    tasks = await observer.api.all(TASKS.format(NAMESPACE))
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        kind = await observer.api.send("GET", f"{TYPES.format(NAMESPACE)}/{KIND}")
        wrong = wrong_counts(workload, kind, tasks)
        if not wrong or time.monotonic() > deadline:
            break
        await asyncio.sleep(1)
    operators.note()
    run.wrong = [*wrong, *wrong_ends(workload, tasks)]
    run.phases = dict(Counter(task["status"]["phase"] for task in tasks))
    run.shards = kind["status"].get("shards", {}).get("end", 0)
    run.max_running = observer.most_live
    run.order_violations = order_violations(tasks, _first_starts(workload, observer))
    run.straggler_seconds = _straggler_seconds(workload, observer)
    run.memory_mib, run.cpu_seconds = round(operators.memory_mib), round(operators.cpu_seconds, 1)
    run.kills = operators.kills
    limits = {"low": workload.low_limit, "high": workload.high_limit}
    run.wrong += [
        f"{most} attempts ran at once, and the limit was {limits[part]}"
        for part, most in run.max_running.items()
        if most > limits[part]
    ]
    if run.order_violations:
        run.wrong.append(f"{run.order_violations} starts were out of order")
    for line in run.wrong[:10]:
        say(f"{run.name}: WRONG: {line}")


def _limit_of(workload: Workload, observer: Observer, attempt: Attempt) -> int:
    low = observer.raised_at is None or attempt.created < observer.raised_at
    return workload.low_limit if low else workload.high_limit


def _first_starts(workload: Workload, observer: Observer) -> list[tuple[str, int]]:
    first = [attempt for attempt in observer.order if attempt.number == 1]
    return [(attempt.task, _limit_of(workload, observer, attempt)) for attempt in first]


def _straggler_seconds(workload: Workload, observer: Observer) -> float:
    stragglers = {workload.name(n) for n in range(workload.tasks) if workload.is_straggler(n)}
    return sum(
        (attempt.ended - attempt.began) / _limit_of(workload, observer, attempt)
        for attempt in observer.order
        if attempt.task in stragglers and attempt.ended is not None
    )


def summary(workload: Workload, runs: list[Run]) -> dict[str, Any]:
    """Return what is written down of all runs."""
    plain, straggling = runs
    allowed = plain.seconds + straggling.straggler_seconds
    return {
        "tasks": workload.tasks,
        "max_running": max(max(run.max_running.values()) for run in runs),
        "max_running_at_low_limit": max(run.max_running["low"] for run in runs),
        "order_violations": sum(run.order_violations for run in runs),
        "phases": straggling.phases,
        "makespan_ratio": round(straggling.seconds / allowed, 3),
        "tasks_per_second": round(workload.tasks / straggling.seconds, 1),
        "kills": straggling.kills,
        "operator_memory_mib": straggling.memory_mib,
        "operator_cpu_ms_per_task": round(1000 * straggling.cpu_seconds / workload.tasks, 2),
        "runs": [vars(run) for run in runs],
    }


async def measure(tasks: int, directory: Path) -> dict[str, Any]:
    """Do all runs; return what is written down of them."""
    workload = Workload(tasks)
    for name in ("plain", "stragglers"):
        await asyncio.to_thread((directory / name).mkdir, parents=True, exist_ok=True)
    runs = [
        await one_run("plain", Workload(tasks, stragglers=False), directory / "plain"),
        await one_run("stragglers", workload, directory / "stragglers", kills=3),
    ]
    return summary(workload, runs)


def main(
    tasks: Annotated[int, typer.Option(min=270, help="How many tasks a run has.")] = 27_000,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = ROOT / "build/scale.json",
) -> None:
    """Run thousands of tasks; fail unless all of them ended as they had to, in order, within the limit."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it cleans up as after Ctrl-C
    figures = asyncio.run(measure(tasks, ROOT / "build" / "scale"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({name: value for name, value in figures.items() if name != "runs"}, indent=1))
    wrong = [line for run in figures["runs"] for line in run["wrong"]]
    if figures["makespan_ratio"] > RATIO_MAX:
        wrong.append(f"stragglers delay the others: a makespan ratio of more than {RATIO_MAX}")
    print("\n".join(wrong) or f"written to {out}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
