"""The figures that are written down, each with its spread."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from performance.bench.latency import Latencies, quantiles
from performance.bench.standing import Standing
from performance.bench.steps import Step, StepRun
from performance.bench.throughput import STATUS, Throughput
from performance.environment import OPERATOR

JOB = "batch/jobs"
TYPE_STATUS = "asyncflow.dev/tasktypes/status"
LEASE = "coordination.k8s.io/leases"


@dataclass
class Figures:
    """Everything that was measured in one go."""

    throughput: dict[str, list[tuple[Throughput, Throughput]]] = field(default_factory=dict)
    """Pairs of runs, of bare Jobs and of AsyncTasks, by the name of the setting."""
    latencies: list[Latencies] = field(default_factory=list)
    beside_finished: dict[int, list[Throughput]] = field(default_factory=dict)
    """Runs of tasks by the number of those that had ended before."""
    standing: dict[int, list[Standing]] = field(default_factory=dict)
    """Starts of an operator by the number of tasks that it found."""
    steps: dict[Step, list[StepRun]] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        """What was not as it has to be, in any run."""
        runs = [run for pairs in self.throughput.values() for pair in pairs for run in pair]
        runs += [run for beside in self.beside_finished.values() for run in beside]
        wrong = [*(run.wrong for run in runs), *(run.wrong for run in self.latencies)]
        return [line for lines in wrong for line in lines]

    def summary(self) -> dict[str, Any]:
        """Return each figure with its minimum, median, maximum and number of runs."""
        found: dict[str, dict[str, float]] = {}
        for setting, pairs in self.throughput.items():
            found[f"ratio_{setting}"] = spread([tasks.per_second / jobs.per_second for jobs, tasks in pairs])
            found[f"ratio_{setting}_cleaned"] = spread(
                [tasks.cleaned_per_second / jobs.cleaned_per_second for jobs, tasks in pairs]
            )
        if pairs := self.throughput.get("tuned", []):
            found["writes_per_task"] = spread([writes_per_task(*pair) for pair in pairs])
            found["deletes_per_task_to_clean"] = spread([_deletes(tasks) for _, tasks in pairs])
            found["operator_cpu_ms_per_task"] = spread(
                [1000 * tasks.used.cpu[OPERATOR] / tasks.objects for _, tasks in pairs]
            )
        if self.latencies:
            found |= {name: spread(values) for name, values in quantiles(self.latencies).items()}
        if none := self.beside_finished.get(0, []):
            usual = statistics.median(run.per_second for run in none)
            for there, beside in self.beside_finished.items():
                if there:
                    found[f"ratio_beside_{there}_finished"] = spread([r.per_second / usual for r in beside])
        empty = [start.memory_kib for start in self.standing.get(0, [])]
        for tasks, starts in sorted(self.standing.items()):
            if not tasks:
                continue
            found[f"ready_seconds_{tasks}"] = spread([start.ready_seconds for start in starts])
            found[f"counted_seconds_{tasks}"] = spread([start.counted_seconds for start in starts])
            found[f"idle_cpu_percent_{tasks}"] = spread([start.idle_cpu_percent for start in starts])
            if empty:
                more = [(start.memory_kib - statistics.median(empty)) / tasks for start in starts]
                found[f"memory_kib_per_task_{tasks}"] = spread(more)
        if largest := max(self.standing, default=0):
            found["memory_kib_per_task"] = found[f"memory_kib_per_task_{largest}"]
        return {name: _rounded(values) for name, values in found.items()}

    def counts(self) -> dict[str, Any]:
        """Return how often the operator wrote what for a short task, with the controller-manager tuned.

        This is compared with the accepted ranges, and not written down.
        """
        runs = [tasks for _, tasks in self.throughput.get("tuned", [])]
        if not runs:
            return {}
        return {
            "job_writes_per_task": spread([run.used.writes(JOB) / run.objects for run in runs]),
            "status_writes_per_task": spread([run.used.writes(STATUS) / run.objects for run in runs]),
            "events_per_task": spread([run.events / run.objects for run in runs]),
        }

    def runs(self) -> dict[str, list[dict[str, Any]]]:
        """Return every run of objects, with what each process used."""
        compared = {
            setting: [run for pair in pairs for run in pair] for setting, pairs in self.throughput.items()
        }
        beside = {f"beside {there} that have ended": runs for there, runs in self.beside_finished.items()}
        return {name: [_described(run) for run in runs] for name, runs in (compared | beside).items()}

    def cost(self) -> dict[str, dict[str, Any]]:
        """Return, for every step from a bare Job on, the control plane's CPU for an object, in ms."""
        return {
            step.text: {
                "all": _rounded(spread([1000 * sum(run.cpu.values()) / run.objects for run in runs])),
                "median_of_each": _rounded(
                    {
                        name: statistics.median(1000 * run.cpu[name] / run.objects for run in runs)
                        for name in runs[0].cpu
                    }
                ),
            }
            for step, runs in sorted(self.steps.items())
        }


def writes_per_task(jobs: Throughput, tasks: Throughput) -> float:
    """Return how many writes the operator made for each task until the last was done.

    The API server does not count by who asked. Nobody else creates Jobs or writes these statuses; of Leases,
    what is written beside bare Jobs as well is taken off. Writes that were refused are not counted.
    """
    ours = tasks.used.writes(JOB, STATUS, TYPE_STATUS) + tasks.events
    leases = max(0, tasks.used.writes(LEASE) - jobs.used.writes(LEASE))
    return (ours + leases) / tasks.objects


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, median and maximum of what several runs gave."""
    return {
        "min": min(values),
        "median": statistics.median(values),
        "max": max(values),
        "runs": len(values),
    }


def _deletes(run: Throughput) -> float:
    return sum(n for (verb, _), n in run.used_to_clean.requests.items() if verb == "DELETE") / run.objects


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def _described(run: Throughput) -> dict[str, Any]:
    return {
        "side": run.side,
        "objects": run.objects,
        "seconds": round(run.seconds, 2),
        "per_second": round(run.per_second, 2),
        "clean_seconds": round(run.clean_seconds, 2),
        "cpu_seconds": {name: round(value, 2) for name, value in run.used.cpu.items()},
        "cpu_seconds_to_clean": {name: round(value, 2) for name, value in run.used_to_clean.cpu.items()},
        "requests": {f"{verb} {what}": n for (verb, what), n in run.used.requests.most_common(20)},
        "watch_events": dict(run.used.watch_events.most_common(8)),
        "watch_bytes": dict(run.used.watch_bytes.most_common(8)),
        "wrong": run.wrong,
    }
