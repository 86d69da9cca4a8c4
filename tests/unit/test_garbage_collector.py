"""Deletion in the background: at a bounded rate, in turn, and of what is as it was."""

from typing import Any

import pytest

from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.garbage_collector import Deletion, GarbageCollector
from asyncflow.kube.client import JOBS, TASKS, ApiError
from support.builders import task_body


class Client:
    """An API server that refuses to delete some objects."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.errors: dict[str, ApiError] = {}

    async def delete(self, _: Any, __: str, name: str, *, uid: str, version: str | None = None) -> None:
        self.asked.append((name, version))
        assert uid == f"uid-{name}"
        if name in self.errors:
            raise self.errors[name]


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def state() -> ClusterState:
    return ClusterState(lambda _: None, lambda *_: None, lambda _: None)


@pytest.fixture
def garbage_collector(client: Client, state: ClusterState) -> GarbageCollector:
    made: Any = client
    return GarbageCollector(made, state, per_second=1000)


def deletion(name: str, *, of_job: bool = False) -> Deletion:
    return Deletion(JOBS if of_job else TASKS, "shop", name, f"uid-{name}", None if of_job else "1")


async def test_what_cannot_be_deleted_does_not_hold_up_the_others(
    garbage_collector: GarbageCollector, client: Client
) -> None:
    client.errors["a"] = ApiError(403, "Forbidden", "a webhook says no")
    for name in "ab":
        garbage_collector.add(deletion(name, of_job=True))
    with pytest.raises(ApiError):
        await garbage_collector.delete_one()
    await garbage_collector.delete_one()
    assert [name for name, _ in client.asked] == ["a", "b"]
    assert len(garbage_collector) == 1, "it is tried again"


async def test_a_task_is_deleted_in_the_version_that_was_judged_and_gone_when_it_is_gone(
    garbage_collector: GarbageCollector, client: Client, state: ClusterState
) -> None:
    state.put_task(task_body("a"))
    garbage_collector.add(deletion("a"))
    await garbage_collector.delete_one()
    assert client.asked == [("a", "1")]
    assert state.tasks.get("uid-a") is not None, "a finalizer may keep it: its deletion will be heard of"
    client.errors["a"] = ApiError(404, "NotFound", "it is not there")
    garbage_collector.add(deletion("a"))
    await garbage_collector.delete_one()
    assert state.tasks.get("uid-a") is None


async def test_a_task_that_has_changed_is_left_as_it_is(
    garbage_collector: GarbageCollector, client: Client, state: ClusterState
) -> None:
    state.put_task(task_body("a"))
    client.errors["a"] = ApiError(409, "Conflict", "it has changed")
    garbage_collector.add(deletion("a"))
    await garbage_collector.delete_one()
    assert (len(garbage_collector), state.tasks.get("uid-a") is not None) == (0, True)
