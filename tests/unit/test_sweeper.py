"""Removal in the background: at a bounded rate, in turn, and of what is as it was."""

from typing import Any

import pytest

from asyncflow.controller.cluster_state import Store
from asyncflow.controller.garbage_collector import Removal, Sweeper
from asyncflow.kube.client import JOBS, TASKS, ApiError
from builders import task_body


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
def store() -> Store:
    return Store(lambda _: None, lambda *_: None, lambda _: None)


@pytest.fixture
def sweeper(client: Client, store: Store) -> Sweeper:
    made: Any = client
    return Sweeper(made, store, per_second=1000)


def removal(name: str, *, of_job: bool = False) -> Removal:
    return Removal(JOBS if of_job else TASKS, "shop", name, f"uid-{name}", None if of_job else "1")


async def test_what_cannot_be_deleted_does_not_hold_up_the_others(sweeper: Sweeper, client: Client) -> None:
    client.errors["a"] = ApiError(403, "Forbidden", "a webhook says no")
    for name in "ab":
        sweeper.add(removal(name, of_job=True))
    with pytest.raises(ApiError):
        await sweeper.remove_one()
    await sweeper.remove_one()
    assert [name for name, _ in client.asked] == ["a", "b"]
    assert len(sweeper) == 1, "it is tried again"


async def test_a_task_is_deleted_in_the_version_that_was_judged_and_gone_when_it_is_gone(
    sweeper: Sweeper, client: Client, store: Store
) -> None:
    store.put_task(task_body("a"))
    sweeper.add(removal("a"))
    await sweeper.remove_one()
    assert client.asked == [("a", "1")]
    assert store.tasks.get("uid-a") is not None, "a finalizer may keep it: its deletion will be heard of"
    client.errors["a"] = ApiError(404, "NotFound", "it is not there")
    sweeper.add(removal("a"))
    await sweeper.remove_one()
    assert store.tasks.get("uid-a") is None


async def test_a_task_that_has_changed_is_left_as_it_is(
    sweeper: Sweeper, client: Client, store: Store
) -> None:
    store.put_task(task_body("a"))
    client.errors["a"] = ApiError(409, "Conflict", "it has changed")
    sweeper.add(removal("a"))
    await sweeper.remove_one()
    assert (len(sweeper), store.tasks.get("uid-a") is not None) == (0, True)
