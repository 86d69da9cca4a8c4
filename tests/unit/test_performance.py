"""The arithmetic of the measurements: a figure that is computed wrongly is worse than none."""

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from performance.bench.content import content, merged
from performance.bench.figures import Figures, spread, writes_per_task
from performance.bench.latency import Latencies, quantile
from performance.bench.report import report
from performance.bench.sides import AsyncTasks, BareJobs
from performance.bench.standing import Standing
from performance.bench.steps import Step, StepRun
from performance.bench.throughput import Throughput
from performance.objects import TEMPLATE
from performance.ranges import ranges
from performance.runner import Outcome, finish
from performance.scale.execution import Run
from performance.scale.runs import summary
from performance.usage import Reading


def reading(requests: dict[tuple[str, str], int], **cpu: float) -> Reading:
    return Reading(cpu, Counter(requests), Counter(), Counter())


def run(side: str, seconds: float, requests: dict[tuple[str, str], int], **cpu: float) -> Throughput:
    cleaning = reading({("DELETE", "batch/jobs"): 200})
    events = 12 if side == "tasks" else 0
    return Throughput(side, 100, seconds, 10, reading(requests, **cpu), cleaning, events)


JOBS = run("jobs", 2.0, {("POST", "batch/jobs"): 100, ("POST", "events"): 110})
TASKS = run(
    "tasks",
    2.5,
    {
        ("POST", "asyncflow.dev/asynctasks"): 100,
        ("POST", "batch/jobs"): 100,
        ("PATCH", "asyncflow.dev/asynctasks/status"): 105,
        ("PATCH", "asyncflow.dev/tasktypes/status"): 5,
        ("PUT", "batch/jobs/status"): 300,
        ("POST", "events"): 120,
        ("PUT", "coordination.k8s.io/leases"): 10,
        ("GET", "batch/jobs"): 7,
    },
    asyncflow=0.5,
)


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_quantile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert quantile([float(number) for number in range(100, 0, -1)], share) == value


def test_writes_are_those_that_bare_jobs_do_not_cause() -> None:
    assert writes_per_task(JOBS, TASKS) == (100 + 105 + 5 + 10 + 12) / 100


def test_what_was_used_is_told_between_two_readings() -> None:
    before = reading({("POST", "batch/jobs"): 100}, etcd=1.0)
    used = reading({("POST", "batch/jobs"): 130, ("POST", "pods"): 1}, etcd=1.5, asyncflow=0.25).since(before)
    assert used.requests == {("POST", "batch/jobs"): 30, ("POST", "pods"): 1}
    assert used.cpu == {"etcd": 0.5, "asyncflow": 0.25}


def test_the_summary_has_a_spread_for_every_figure() -> None:
    starts = {0: [Standing(0, 1, 0, 100_000, 0.1)], 50_000: [Standing(50_000, 9, 2, 300_000, 1.5)]}
    steps = {
        step: [StepRun(step, 100, {"etcd": 0.1 * (step + n), "api": 0.2 * n}) for n in (3, 1, 2)]
        for step in Step
    }
    figures = Figures(throughput={"tuned": [(JOBS, TASKS), (JOBS, TASKS)]}, standing=starts, steps=steps)
    found = figures.summary()
    assert found["ratio_tuned"] == {"min": 0.8, "median": 0.8, "max": 0.8, "runs": 2}
    assert found["ratio_tuned_cleaned"]["median"] == 0.96
    assert found["operator_cpu_ms_per_task"]["median"] == 5
    assert found["deletes_per_task_to_clean"]["median"] == 2
    assert found["memory_kib_per_task"]["median"] == 4
    assert found["ready_seconds_50000"]["median"] == 9
    assert found["idle_cpu_percent_50000"]["median"] == 1.5
    assert figures.wrong == []
    page = report(content(figures, short=False))
    assert "| 0.80 | 0.8 | 0.8 | 0.8 | 2 |" in page
    assert "| for each object | ms of CPU | min | max | etcd | api |" in page
    assert "| a bare Job | 6 | 3 | 9 | 2 | 4 |" in page
    assert "| and its AsyncTask is created | 7 | 4 | 10 | 3 | 4 |" in page
    assert spread([3.0, 1.0, 2.0]) == {"min": 1.0, "median": 2.0, "max": 3.0, "runs": 3}


def test_both_sides_have_the_same_pods() -> None:
    template: dict[str, Any] = BareJobs().body(1)["spec"]["template"]
    assert template is TEMPLATE
    assert AsyncTasks().body(1)["spec"] == {"taskTypeName": "bench"}


def test_a_part_that_is_measured_again_takes_its_own_place_and_no_other() -> None:
    old = content(Figures(throughput={"tuned": [(JOBS, TASKS)], "default": [(JOBS, TASKS)]}), short=False)
    new = content(Figures(throughput={"tuned": [(TASKS, TASKS)]}), short=False)
    both = merged(old, new)
    assert (both["ratio_tuned"]["median"], both["ratio_default"]["median"]) == (1, 0.8)
    assert both["runs"] == {"tuned": new["runs"]["tuned"], "default": old["runs"]["default"]}
    assert merged({**old, "cost": {"a bare Job": {}}}, new)["cost"] == {"a bare Job": {}}
    assert merged(old, {**new, "cost": {"a bare Job": {}}})["cost"] == {"a bare Job": {}}
    assert merged({**old, "settings": {**old["settings"], "operator": "another"}}, new) == new
    assert merged({}, new) == new


@pytest.mark.parametrize(
    ("outcome", "code", "is_written"),
    [
        (Outcome({"ratio": 0.6}, {}), None, True),
        (Outcome({"ratio": 0.6}, {}, invalid=["b-000000 is Failed"]), 1, False),
        (Outcome({"ratio": 0.6}, {}, rejected=["ratio is 0.6"]), 1, True),
    ],
)
def test_what_is_invalid_is_not_written(
    outcome: Outcome, code: int | None, is_written: bool, tmp_path: Path
) -> None:
    out = tmp_path / "build" / "bench.json"
    with pytest.raises(SystemExit, match="1") if code else nullcontext():
        finish(outcome, out)
    assert out.exists() == is_written


def test_the_short_form_is_not_shown() -> None:
    with pytest.raises(ValueError, match="not fit to be shown"):
        report(content(Figures(), short=True))


def test_every_range_is_of_a_figure_that_there_is() -> None:
    pairs = {name: [(JOBS, TASKS)] for name in ("tuned", "default")}
    starts = {n: [Standing(n, 1, 1, 1, 1)] for n in (0, 1000, 10_000, 50_000)}
    latencies = [Latencies([1], [1], [])]
    figures = Figures(pairs, latencies, {0: [TASKS], 20_000: [TASKS]}, starts)
    bench = figures.summary().keys() | figures.counts().keys()
    assert ranges("bench").keys() <= bench
    assert ranges("bench-short").keys() <= bench
    run = Run("r", 1, max_running={"low": 1, "high": 2}, phases={"Succeeded": 1, "Failed": 1})
    assert ranges("scale-short").keys() <= run.counts().keys()
    assert ranges("scale").keys() <= summary(2, run, run).keys()
