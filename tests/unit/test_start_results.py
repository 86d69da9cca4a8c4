"""How a start ends: started, refused, or unknown; and what a task that may not start reports, and when."""

from typing import Any

import pytest

from asyncflow.kube.client import JOBS, LEASES, TASKS, ApiError
from model.shop import Shop
from model.world import Request


def refuse(shop: Shop, monkeypatch: pytest.MonkeyPatch, resource: Any, error: ApiError | None) -> None:
    """Let the API server refuse to create objects of a resource; None: no more."""
    handle = type(shop.world).handle

    def refusing(request: Request) -> Any:
        creates = request.method == "create" and not request.dry_run
        if error is not None and creates and request.resource == resource:
            raise error
        return handle(shop.world, request)

    monkeypatch.setattr(shop.world, "handle", refusing)


def status(shop: Shop, name: str) -> Any:
    return shop.world.objects[TASKS][name].get("status", {})


QUOTA = ApiError(403, "Forbidden", 'jobs.batch "a" is forbidden: exceeded quota: q')


def test_a_start_with_an_unknown_result_keeps_its_slot() -> None:
    shop = Shop(maxConcurrent=1)
    shop.create("a")
    while not shop.jobs:  # until the create of the Job was sent, and its response is lost
        shop.operator.hear()
        if not shop.operator.begin(0):
            shop.operator.answer(0, lost=True)
    shop.world.watchers.clear()  # nor does an event of the Job arrive
    shop.operator.events.clear()
    shop.create("b")
    shop.world.watchers.append(shop.operator.events)
    shop.world.changed(TASKS, "b", "ADDED")
    shop.settle()
    assert shop.jobs == {"a-0-1"}


def test_a_refused_start_is_visible_and_gives_slot_and_lock_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop(maxConcurrent=1)
    refuse(shop, monkeypatch, JOBS, QUOTA)
    shop.create("a", lockKey="key")
    shop.settle()
    assert status(shop, "a")["reason"] == "QuotaExceeded"
    assert not shop.world.objects[LEASES]
    refuse(shop, monkeypatch, JOBS, None)
    shop.create("b", lockKey="key")
    shop.settle()
    assert shop.jobs == {"b-0-1"}


def test_a_lock_that_cannot_be_taken_is_a_refused_start(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(maxConcurrent=1)
    refuse(shop, monkeypatch, LEASES, ApiError(403, "Forbidden", "leases is forbidden"))
    shop.create("a", lockKey="key")
    shop.settle()
    assert status(shop, "a")["reason"] == "Forbidden"
    shop.create("b")
    shop.settle()
    assert shop.jobs == {"b-0-1"}


def test_what_a_task_waits_for_is_reported_in_the_pass_that_decides_it() -> None:
    shop = Shop(maxConcurrent=5)
    shop.create("a", lockKey="key")
    shop.settle()
    shop.create("b", lockKey="key")
    assert shop.settle() == 2, "one that writes the reason, one for the event of that write"
    assert status(shop, "b")["reason"] == "LockHeld"
