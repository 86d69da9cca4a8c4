"""The reconciler of tasks where it needs no API server: slots of tasks that are gone."""

from collections import defaultdict
from typing import Any

import pytest

from asyncflow.core.dispatch import Slots, rank
from asyncflow.handlers.tasks import TaskReconciler, utc_now
from asyncflow.kube.alarms import Alarms
from asyncflow.kube.store import Store, TypeKey
from builders import T0, job_body, task_body

TYPE = ("shop", "poll")


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def slots() -> defaultdict[TypeKey, Slots]:
    made: defaultdict[TypeKey, Slots] = defaultdict(Slots)
    made[TYPE].set_limit(1)
    return made


@pytest.fixture
def store() -> Store:
    return Store(lambda _: None, lambda _: None)


@pytest.fixture
async def reconciler(store: Store, slots: defaultdict[TypeKey, Slots], woken: list[str]) -> TaskReconciler:
    unused: Any = None
    return TaskReconciler(unused, store, slots, Alarms(woken.append, utc_now), unused, woken.append)


async def test_a_task_that_is_deleted_before_its_turn_holds_up_nobody(
    reconciler: TaskReconciler, slots: defaultdict[TypeKey, Slots], woken: list[str]
) -> None:
    slots[TYPE].expect({"uid-gone"})
    assert slots[TYPE].offer("uid-next", rank(0, T0, "next", "uid-next")) == []
    await reconciler.reconcile("uid-gone")
    assert woken == ["uid-next"]


async def test_the_slot_of_a_deleted_task_is_free_when_its_job_is_gone_and_not_before(
    reconciler: TaskReconciler, store: Store, slots: defaultdict[TypeKey, Slots], woken: list[str]
) -> None:
    store.put_task(task_body("gone"))
    store.put_job(job_body(name="gone"))
    slots[TYPE].occupy("uid-gone")
    slots[TYPE].offer("uid-next", rank(0, T0, "next", "uid-next"))
    store.drop_task("uid-gone")
    await reconciler.reconcile("uid-gone")
    assert woken == []
    store.drop_job("job-gone-1")
    await reconciler.reconcile("uid-gone")
    assert woken == ["uid-next"]
