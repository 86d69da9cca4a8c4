"""The short form of `make bench`: no absolute times, but a floor for the ratio to bare Jobs."""

import pytest

from integration.conftest import BUILD
from performance.bench import Bench
from performance.figures import JOB, Figures
from performance.run import compare
from performance.steps import Step, run_step
from performance.throughput import STATUS

OBJECTS = 120
FLOOR = 0.4
"""Of AsyncTasks a second ÷ bare Jobs a second; with 1,500 of them it is 0.6, with so few more."""


@pytest.mark.timeout(600)
async def test_tasks_are_not_much_slower_than_bare_jobs_and_nothing_is_left_out() -> None:
    figures = Figures()
    async with Bench.start(BUILD / "bench", kube_api_qps=5000) as bench:
        await compare(figures, bench, "tuned", objects=OBJECTS, runs=2)
        step = await run_step(bench, Step.ENVIRONMENT, 20)
    assert figures.wrong == []
    assert figures.summary()["ratio_tuned"]["max"] >= FLOOR
    assert step.cpu["kube-apiserver"] > 0
    for _, tasks in figures.throughput["tuned"]:
        assert tasks.used.writes(JOB) == OBJECTS
        assert OBJECTS <= tasks.used.writes(STATUS) <= 2 * OBJECTS, "a slow machine has more running attempts"
        assert tasks.events == 0, "no event tells of a success"
