"""Renders ``docs/benchmarks.md`` from the figures of one run of ``make bench``."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

Figures = dict[str, Any]

HEAD = """\
# Benchmarks

AsyncTasks beside bare Jobs with the same pod template: on one control plane, in turn. `make bench`
measures all of it, each part on a control plane of its own, and writes `build/bench.json`; `make bench
ARGS="--part tuned"` measures a part again. This page was made from that file by `make bench-report`.
Absolute times are those of one machine on one day; the ratios are what counts.

etcd, API server, controller-manager, scheduler, and kwok in place of the kubelets, run as plain
processes on loopback; the operator runs as one, with its real rights, and only where it is needed. Both
sides are created by the same client with the same concurrency, and timed from the first create until a
watcher has seen the last one end. Then each task's status, history and lease are checked, with its Job
and its pod, and each bare Job with its pod: where anything is missing, nothing is written. At last all is
deleted, and timed until no object is left.

etcd does not wait for the disk here (`unsafe-no-fsync`): on a slow disk each write beside a bare Job's
costs more than it does here.

"""

LIMITS = """\
With the controller-manager tuned, the cores are the limit, so the ratio is that of the CPU for an object.
Here the control plane's, without an operator, from a bare Job step by step to all that the operator writes
for a short task; its watches and reads are not in it, nor is the cleanup. Medians of several rounds:
"""

ROWS = (
    ("ratio_tuned", "AsyncTasks a second ÷ bare Jobs a second, controller-manager tuned", "0.80"),
    ("ratio_tuned_cleaned", "the same, until all is deleted", ""),
    ("ratio_default", "the first, with the controller-manager's own 20 requests a second", "0.97"),
    ("ratio_default_cleaned", "the same, until all is deleted", ""),
    ("writes_per_task", "our API writes for a short task until `Succeeded`", "2"),
    ("operator_cpu_ms_per_task", "the operator's CPU for a task until `Succeeded`, ms", "2"),
    ("create_to_job_median_ms", "create → Job at 10 tasks a second, median, ms", ""),
    ("create_to_job_p99_ms", "the same, 99th percentile", "60"),
    ("end_to_succeeded_median_ms", "Job complete → `Succeeded` at 10 a second, median, ms", ""),
    ("end_to_succeeded_p99_ms", "the same, 99th percentile", "100"),
    (
        "memory_kib_per_task",
        "memory for a pending task without payload, above an empty operator, after a list of 50,000, KiB",
        "6",
    ),
    ("memory_kib_per_task_10000", "the same with 10,000 tasks, before their next list", ""),
    ("memory_kib_per_task_1000", "the same with 1,000 tasks, before their next list", ""),
    ("ready_seconds_1000", "ready with 1,000 tasks there, s", ""),
    ("ready_seconds_10000", "ready with 10,000 tasks there, s", ""),
    ("ready_seconds_50000", "ready with 50,000 tasks there, s", "15"),
    ("counted_seconds_50000", "from then until one more of 50,000 is counted, s", ""),
    ("idle_cpu_percent_50000", "CPU when idle, with 50,000 tasks there, % of a core", "2"),
    ("ratio_beside_20000_finished", "throughput beside 20,000 tasks that have ended ÷ beside none", ""),
)


def report(content: Figures) -> str:
    """Return the page.

    Raises:
        ValueError: they were measured in the short form.
    """
    if content["settings"]["short"]:
        raise ValueError("these figures are not fit to be shown: measure the long form")
    parts = [HEAD, "| figure | to reach | min | median | max | runs |\n|---|---|---|---|---|---|\n"]
    for key, text, goal in ROWS:
        if (figure := content.get(key)) is not None:
            spread = " | ".join(f"{figure[name]:g}" for name in ("min", "median", "max", "runs"))
            parts.append(f"| {text} (`{key}`) | {goal} | {spread} |\n")
    parts.append(_standing(content))
    for setting in content["runs"]:
        parts.append(_throughput(setting, content["runs"][setting]))
    if content["cost"]:
        parts.append(_cost(content["cost"]))
    parts.append(_settings(content["settings"]))
    return "".join(parts)


def _standing(content: Figures) -> str:
    """Return how the start grows with the number of tasks that are there."""
    sizes = [size for size in (1000, 10_000, 50_000) if f"ready_seconds_{size}" in content]
    if not sizes:
        return ""
    ready = [content[f"ready_seconds_{size}"]["median"] for size in sizes]
    names = [f"{size:,}" for size in sizes]
    return "\n" + _plot("seconds until ready, by the tasks that are there", "tasks", names, "s", ready)


def _throughput(setting: str, runs: Sequence[Figures]) -> str:
    speeds: dict[str, list[float]] = {}
    for run in runs:
        speeds.setdefault(run["side"], []).append(run["per_second"])
    plot = _plot(
        f"{setting}: {' behind '.join(speeds)}, done a second",
        "run",
        [str(number + 1) for number in range(len(speeds["tasks"]))],
        "a second",
        *(speeds[side] for side in sorted(speeds)),
    )
    processes = list(dict.fromkeys(name for run in runs for name in run["cpu_seconds"]))
    head = f"| run | objects | s | a second | s to clean | {' | '.join(processes)} |\n"
    head += "|---" * (5 + len(processes)) + "|\n"
    rows = "".join(_row(run, processes) for run in runs)
    return f"\n## {setting}\n\n{plot}\nCPU seconds of each process until the last was done:\n\n{head}{rows}"


def _plot(title: str, x: str, names: Sequence[str], y: str, *bars: Sequence[float]) -> str:
    """Return a Mermaid plot; of several bars at one place the later stand before the earlier."""
    most = max(max(values) for values in bars)
    places = ", ".join(json.dumps(name) for name in names)
    lines = "".join(f"  bar {json.dumps(values)}\n" for values in bars)
    return (
        f'```mermaid\nxychart-beta\n  title "{title}"\n  x-axis "{x}" [{places}]\n'
        f'  y-axis "{y}" 0 --> {most * 1.1:.3g}\n{lines}```\n'
    )


def _row(run: Figures, processes: Iterable[str]) -> str:
    used = " | ".join(f"{run['cpu_seconds'].get(name, 0):g}" for name in processes)
    return (
        f"| {run['side']} | {run['objects']} | {run['seconds']:g} | {run['per_second']:g} "
        f"| {run['clean_seconds']:g} | {used} |\n"
    )


def _cost(cost: Figures) -> str:
    processes = list(next(iter(cost.values()))["median_of_each"])
    head = f"| for each object | ms of CPU | min | max | {' | '.join(processes)} |\n"
    head += "|---" * (4 + len(processes)) + "|\n"
    rows = "".join(
        f"| {step} | {used['all']['median']:g} | {used['all']['min']:g} | {used['all']['max']:g} "
        f"| {' | '.join(format(used['median_of_each'][name], 'g') for name in processes)} |\n"
        for step, used in cost.items()
    )
    plot = _plot(
        "the control plane's CPU for an object, step by step",
        "step",
        [str(number) for number in range(len(cost))],
        "ms",
        [used["all"]["median"] for used in cost.values()],
    )
    return f"\n## What limits it\n\n{LIMITS}\n{plot}\n{head}{rows}"


def _settings(settings: Figures) -> str:
    lines = "".join(f"- {name}: {value}\n" for name, value in settings.items())
    return f"\n## Versions and settings\n\n{lines}"
