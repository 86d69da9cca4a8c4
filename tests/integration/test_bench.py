"""The short form of `make bench`: ratios and counts, no times."""

import pytest

from integration.conftest import BUILD
from performance.bench.figures import Figures
from performance.bench.parts import compare
from performance.bench.steps import Step, run_step
from performance.environment import Environment
from performance.ranges import out_of_range

OBJECTS = 120


@pytest.mark.timeout(3600)  # only a guard: the observer gives up long before when nothing moves
async def test_tasks_are_not_much_slower_than_bare_jobs_and_nothing_is_left_out() -> None:
    figures = Figures()
    async with Environment.start(BUILD / "bench") as environment:
        await compare(figures, environment, "tuned", objects=OBJECTS, runs=2)
        step = await run_step(environment, Step.ENVIRONMENT, 20)
    assert figures.wrong == []
    assert out_of_range("bench-short", figures.summary() | figures.counts()) == []
    assert step.cpu["kube-apiserver"] > 0
