"""How a start ends: started, refused, or unknown; and what a task that may not start reports, and when."""

from datetime import timedelta
from typing import Any

from asyncflow.api.meta import format_time
from asyncflow.core.attempt.naming import lock_name
from asyncflow.core.tasktype.snapshot import Due
from asyncflow.kube.client import LEASES, TASKS, ApiError
from model.shop import Shop


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
    shop.operator.events.clear()  # nor does the event of the Job arrive
    shop.create("b")
    shop.settle()
    assert shop.jobs == {"a-0-1"}


def test_a_refused_start_is_visible_and_gives_slot_and_lock_to_the_next() -> None:
    shop = Shop(maxConcurrent=1)
    shop.world.api.fail("create", QUOTA, name="a-0-1")
    shop.create("a", lockKey="key")
    shop.settle()
    assert status(shop, "a")["reason"] == "QuotaExceeded"
    assert not shop.world.objects[LEASES]
    shop.create("b", lockKey="key")
    shop.settle()
    assert shop.jobs == {"b-0-1"}


def test_a_lock_that_cannot_be_taken_is_a_refused_start() -> None:
    shop = Shop(maxConcurrent=1)
    shop.world.api.fail("create", ApiError(403, "Forbidden", "leases is forbidden"), name=lock_name("key"))
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


def test_a_status_that_was_decided_on_an_older_version_is_not_written() -> None:
    shop = Shop()
    shop.create("a", suspend=True)
    shop.operator.hear()
    assert shop.operator.begin(0), "its write is in flight"
    shop.world.patch(TASKS, "a", spec={"suspend": None})
    shop.operator.answer(0)
    assert "reason" not in status(shop, "a")
    shop.settle()
    assert shop.jobs == {"a-0-1"}


def test_a_task_that_changed_since_retention_chose_it_is_not_deleted() -> None:
    shop = Shop(retention={"succeededSeconds": 0}, suspend=True)
    shop.create("a")
    ended = format_time(shop.world.now - timedelta(seconds=5))
    shop.world.patch(TASKS, "a", status={"phase": "Succeeded", "completionTime": ended, "shard": 1})
    shop.settle()
    term = shop.operator.work
    assert term is not None
    term.request(("shop", "poll"), Due.ROLL)
    while not len(term.garbage_collector):
        assert shop.operator.begin(0) or shop.operator.answer(0)
    shop.world.patch(TASKS, "a", metadata={"annotations": {"asyncflow.dev/retry-now": "again"}})
    assert shop.operator.begin(99), "the deletion is in flight"
    while shop.operator.answer(0):
        pass
    shop.settle()
    assert status(shop, "a")["run"] == 2
