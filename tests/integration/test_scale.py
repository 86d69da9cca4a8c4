"""A tenth of `make scale`: 2,700 tasks, stragglers among them, and an operator that is killed three times."""

import pytest

from integration.conftest import BUILD
from performance.ranges import out_of_range
from performance.scale.execution import run_workload
from performance.scale.workload import Workload


@pytest.mark.timeout(3600)  # only a guard: the observer gives up long before when nothing moves
async def test_every_task_of_many_ends_in_order_within_the_limit_and_is_counted() -> None:
    run = await run_workload("scale", Workload(2_700), BUILD / "scale", kills=3)
    assert run.wrong == []
    assert out_of_range("scale-short", run.counts()) == []
