"""The reconciler of tasks where it needs no API server: slots of tasks that are gone."""

from collections.abc import Iterator

import pytest

from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.context import Context
from asyncflow.controller.task_reconciler import TaskReconciler
from asyncflow.core.scheduling.admission import Admission, Claim
from asyncflow.core.scheduling.priority_queue import rank
from support.builders import T0, context, job_body, task_body
from support.fake_api import FakeApiServer, FakeClient

TYPE = ("shop", "poll")


@pytest.fixture
def admission() -> Admission:
    made = Admission()
    made.set_limit(TYPE, 1)
    return made


@pytest.fixture
def state() -> ClusterState:
    return ClusterState(lambda _: None, lambda *_: None, lambda _: None)


@pytest.fixture
def shared(state: ClusterState, admission: Admission) -> Iterator[Context]:
    api = FakeApiServer()
    yield context(state, client=FakeClient(api), admission=admission)
    assert api.requests == []


@pytest.fixture
def reconciler(shared: Context) -> TaskReconciler:
    return TaskReconciler(shared, lambda _: None)


async def test_a_task_that_is_deleted_before_its_turn_holds_up_nobody(
    reconciler: TaskReconciler, admission: Admission, shared: Context
) -> None:
    admission.expect(TYPE, {"uid-gone"})
    assert admission.offer("uid-next", Claim(TYPE, rank(0, T0, "next", "uid-next"))) == []
    await reconciler.reconcile("uid-gone")
    assert shared.tasks.waiting == ["uid-next"]


async def test_the_slot_of_a_deleted_task_is_free_when_its_job_is_gone_and_not_before(
    reconciler: TaskReconciler, state: ClusterState, admission: Admission, shared: Context
) -> None:
    state.put_task(task_body("gone"))
    state.put_job(job_body(name="gone"))
    admission.occupy("uid-gone", TYPE)
    admission.offer("uid-next", Claim(TYPE, rank(0, T0, "next", "uid-next")))
    state.drop_task("uid-gone")
    await reconciler.reconcile("uid-gone")
    assert shared.tasks.waiting == []
    state.drop_job("job-gone-1")
    await reconciler.reconcile("uid-gone")
    assert shared.tasks.waiting == ["uid-next"]
