"""How an attempt is ended from outside."""

import pytest

from asyncflow.api import names
from asyncflow.api.meta import format_time
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.stopping import Stopper
from asyncflow.core.lifecycle.actions import CloseJob, StopJob
from asyncflow.core.lifecycle.outcome import STOP_CANCELLED, STOP_FENCED, STOP_NOT_STARTED
from asyncflow.kube.client import JOBS, PODS
from asyncflow.kube.queue import Requeue
from support.builders import NAMESPACE, T0, job_body, pod_body, task, task_body
from support.fake_api import FakeApiServer, FakeClient


@pytest.fixture
def api() -> FakeApiServer:
    """A Job with a pod that its node has just accepted."""
    made = FakeApiServer()
    made.load(JOBS, job_body())
    made.load(PODS, pod_body(version=2, phase="Running", startTime=format_time(T0)))
    return made


@pytest.fixture
def state() -> ClusterState:
    made = ClusterState(lambda _: None, lambda *_: None, lambda _: None)
    made.put_task(task_body())
    made.put_job(job_body())
    return made


async def test_an_attempt_that_started_in_the_last_moment_is_not_stopped_for_not_starting(
    api: FakeApiServer, state: ClusterState
) -> None:
    stopper = Stopper(FakeClient(api), state)
    with pytest.raises(Requeue, match="has started since the decision"):
        await stopper.stop(task(), StopJob("order-1-0-1", "job-order-1-1", STOP_NOT_STARTED))
    assert [request for request in api.requests if request.writes] == []
    (seen,) = state.pods_of("uid-order-1")
    assert seen.start_time == T0, "the next decision knows of it"


async def test_it_is_stopped_for_any_other_reason(api: FakeApiServer, state: ClusterState) -> None:
    stopper = Stopper(FakeClient(api), state)
    await stopper.stop(task(), StopJob("order-1-0-1", "job-order-1-1", STOP_CANCELLED))
    assert [request.resource for request in api.requests if request.writes] == [PODS, JOBS]
    assert api.get(PODS, NAMESPACE, "order-1-0-1-abcde")["spec"]["activeDeadlineSeconds"] == 1
    annotations = api.get(JOBS, NAMESPACE, "order-1-0-1")["metadata"]["annotations"]
    assert annotations == {names.STOP_REASON_ANNOTATION: STOP_CANCELLED}


@pytest.mark.parametrize("closes", [False, True])
async def test_a_suspended_job_is_stopped_by_its_deletion(state: ClusterState, closes: bool) -> None:
    """Its deadline does not run while it is suspended."""
    api = FakeApiServer()
    body = job_body()
    body["spec"] = {**body.get("spec", {}), "suspend": True}
    api.load(JOBS, body)
    stopper = Stopper(FakeClient(api), state)
    if closes:
        await stopper.close(task(), CloseJob("order-1-0-1", "job-order-1-1", STOP_FENCED))
    else:
        await stopper.stop(task(), StopJob("order-1-0-1", "job-order-1-1", STOP_CANCELLED))
    (deletion,) = [request for request in api.requests if request.verb == "delete"]
    assert (deletion.resource, deletion.uid) == (JOBS, "job-order-1-1")
    assert deletion.version is not None, "only if it is still suspended"
    job = state.jobs.get("job-order-1-1")
    assert job is not None
    assert job.without_pod is not closes
