"""Deletion in the background: at a bounded rate, in turn, and of what is as it was."""

import pytest

from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.garbage_collector import Deletion, GarbageCollector
from asyncflow.kube.client import JOBS, TASKS, ApiError, Body
from support.builders import NAMESPACE, job_body, task_body
from support.fake_api import FakeApiServer, FakeClient


@pytest.fixture
def api() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
def state() -> ClusterState:
    return ClusterState(lambda _: None, lambda *_: None, lambda _: None)


@pytest.fixture
def garbage_collector(api: FakeApiServer, state: ClusterState) -> GarbageCollector:
    return GarbageCollector(FakeClient(api), state, per_second=1000)


def deletion(of: Body, *, of_job: bool = False) -> Deletion:
    meta = of["metadata"]
    version = None if of_job else meta["resourceVersion"]
    return Deletion(JOBS if of_job else TASKS, NAMESPACE, meta["name"], meta["uid"], version)


def asked(api: FakeApiServer) -> list[tuple[str, str | None]]:
    """Return which objects were to be deleted, in which versions."""
    return [(request.name, request.version) for request in api.requests if request.verb == "delete"]


async def test_what_cannot_be_deleted_does_not_hold_up_the_others(
    garbage_collector: GarbageCollector, api: FakeApiServer
) -> None:
    jobs = [job_body(name=name) for name in "ab"]
    api.load(JOBS, *jobs)
    api.fail("delete", ApiError(403, "Forbidden", "a webhook says no"), name="a-0-1")
    for job in jobs:
        garbage_collector.add(deletion(job, of_job=True))
    with pytest.raises(ApiError):
        await garbage_collector.delete_one()
    await garbage_collector.delete_one()
    assert asked(api) == [("a-0-1", None), ("b-0-1", None)]
    assert set(api.objects(JOBS, NAMESPACE)) == {"a-0-1"}
    assert len(garbage_collector) == 1, "it is tried again"


async def test_a_task_is_deleted_in_the_version_that_was_judged_and_gone_when_it_is_gone(
    garbage_collector: GarbageCollector, api: FakeApiServer, state: ClusterState
) -> None:
    task = task_body("a")
    state.put_task(task)
    task["metadata"]["finalizers"] = ["example.com/kept"]
    api.load(TASKS, task)
    garbage_collector.add(deletion(task))
    await garbage_collector.delete_one()
    assert asked(api) == [("a", "1")]
    assert "deletionTimestamp" in api.get(TASKS, NAMESPACE, "a")["metadata"]
    assert state.tasks.get("uid-a") is not None, "a finalizer may keep it: its deletion will be heard of"
    api.patch(TASKS, NAMESPACE, "a", {"metadata": {"finalizers": []}})
    garbage_collector.add(deletion(task))
    await garbage_collector.delete_one()
    assert state.tasks.get("uid-a") is None


async def test_a_task_that_has_changed_is_left_as_it_is(
    garbage_collector: GarbageCollector, api: FakeApiServer, state: ClusterState
) -> None:
    task = task_body("a")
    state.put_task(task)
    api.load(TASKS, task)
    api.patch(TASKS, NAMESPACE, "a", {"spec": {"priority": 1}})
    garbage_collector.add(deletion(task))
    await garbage_collector.delete_one()
    assert (len(garbage_collector), state.tasks.get("uid-a") is not None) == (0, True)
    assert set(api.objects(TASKS, NAMESPACE)) == {"a"}
