"""How an attempt is ended from outside."""

from typing import Any

import pytest

from asyncflow.api.meta import format_time
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.stopping import Stopper
from asyncflow.core.lifecycle.actions import StopJob
from asyncflow.core.lifecycle.outcome import STOP_CANCELLED, STOP_NOT_STARTED
from asyncflow.kube.client import JOBS, Listing, Resource
from asyncflow.kube.queue import Requeue
from support.builders import T0, job_body, pod_body, task, task_body

Body = dict[str, Any]


class Cluster:
    """A Job with a pod that its node has just accepted; takes the place of the API client."""

    def __init__(self) -> None:
        self.patched: list[Resource] = []

    async def list(self, *_: Any, **__: Any) -> Listing:
        return Listing([pod_body(version=2, phase="Running", startTime=format_time(T0))], "2")

    async def patch(self, resource: Resource, *_: Any) -> Body:
        self.patched.append(resource)
        return job_body(version=3)


@pytest.fixture
def state() -> ClusterState:
    made = ClusterState(lambda _: None, lambda *_: None, lambda _: None)
    made.put_task(task_body())
    made.put_job(job_body())
    return made


async def test_an_attempt_that_started_in_the_last_moment_is_not_stopped_for_not_starting(
    state: ClusterState,
) -> None:
    cluster: Any = Cluster()
    with pytest.raises(Requeue, match="has started since the decision"):
        await Stopper(cluster, state).stop(task(), StopJob("order-1-0-1", "job-order-1-1", STOP_NOT_STARTED))
    assert cluster.patched == []
    (seen,) = state.pods_of("uid-order-1")
    assert seen.start_time == T0, "the next decision knows of it"


async def test_it_is_stopped_for_any_other_reason(state: ClusterState) -> None:
    cluster: Any = Cluster()
    await Stopper(cluster, state).stop(task(), StopJob("order-1-0-1", "job-order-1-1", STOP_CANCELLED))
    assert JOBS in cluster.patched
    assert len(cluster.patched) == 2
