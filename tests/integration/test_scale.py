"""A tenth of `make scale`: 2,700 tasks, stragglers among them, and an operator that is killed three times."""

import pytest

from integration.conftest import BUILD
from performance.scale.run import one_run
from performance.scale.workload import Workload


@pytest.mark.timeout(900)
async def test_every_task_of_many_ends_in_order_within_the_limit_and_is_counted() -> None:
    workload = Workload(2_700)
    directory = BUILD / "scale"
    directory.mkdir(parents=True, exist_ok=True)
    run = await one_run("scale", workload, directory, kills=3)
    assert run.wrong == []
    assert run.phases == {"Succeeded": 2_673, "Failed": 27}
    assert run.max_running == {"low": workload.low_limit, "high": workload.high_limit}
    assert run.shards >= 4, "the split governor looks every two seconds"
    assert run.kills == 3
