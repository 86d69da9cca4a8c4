"""The state: whatever the order of arrival, the newest is what is known."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncflow.api import names
from asyncflow.api.meta import format_time
from asyncflow.controller.cluster_state import CACHED_TASKS, ClusterState
from support.builders import T0, job_body, pod_body, task_body


@pytest.fixture
def changed() -> list[str]:
    return []


@pytest.fixture
def state(changed: list[str]) -> ClusterState:
    return ClusterState(changed.append, lambda key, _: changed.append("/".join(key)), lambda _: None)


def test_an_older_version_does_not_replace_a_newer_one(state: ClusterState, changed: list[str]) -> None:
    assert state.put_task(task_body(version=5, priority=5))
    assert not state.put_task(task_body(version=4, priority=4))
    assert not state.put_task(task_body(version=5, priority=5))
    task = state.tasks.get("uid-order-1")
    assert task is not None
    assert task.spec.priority == 5
    assert changed == ["uid-order-1"]


def test_what_was_deleted_does_not_come_back_from_an_older_list(state: ClusterState) -> None:
    state.put_task(task_body(version=5))
    state.drop_task("uid-order-1")
    assert not state.put_task(task_body(version=9))
    assert state.snapshot("uid-order-1", None) is None


def test_a_job_that_vanished_is_kept_until_its_attempt_is_on_record(state: ClusterState) -> None:
    state.put_task(task_body(version=1))
    state.put_job(job_body(version=2))
    state.put_pod(pod_body(version=3))
    state.drop_job("job-order-1-1")
    seen = state.snapshot("uid-order-1", None)
    assert seen is not None
    assert seen.gone == {"job-order-1-1"}
    assert len(seen.pods) == 1
    body = task_body(version=4)
    body["status"] = {"attempt": 1, "attempts": [{"number": 1, "jobName": "j", "outcome": "Unknown"}]}
    state.put_task(body)
    seen = state.snapshot("uid-order-1", None)
    assert seen is not None
    assert (seen.jobs, seen.pods) == ((), ())


def test_the_jobs_of_a_deleted_task_are_known_until_they_are_gone(state: ClusterState) -> None:
    state.put_task(task_body())
    state.put_job(job_body())
    state.drop_task("uid-order-1")
    assert [job.uid for job in state.jobs_of("uid-order-1")] == ["job-order-1-1"]
    state.drop_job("job-order-1-1")
    assert state.jobs_of("uid-order-1") == []
    assert len(state.jobs) == 0


def test_a_list_shows_what_was_deleted_unseen(state: ClusterState) -> None:
    for name, version in (("a", 1), ("b", 2), ("c", 30)):
        state.put_task(task_body(name, version=version))
    assert state.retain(tasks=({"uid-a"}, 20)) == 1
    assert state.snapshot("uid-b", None) is None
    assert state.snapshot("uid-c", None) is not None, "it is newer than the list"


def test_pods_of_strangers_are_not_kept(state: ClusterState) -> None:
    assert not state.put_pod(pod_body())


def test_an_object_that_cannot_be_read_is_passed_over_and_named(
    state: ClusterState, caplog: pytest.LogCaptureFixture
) -> None:
    assert not state.put_task(task_body(priority="high"))
    assert "shop/order-1" in caplog.text
    assert "spec.priority" in caplog.text


def test_the_time_of_a_look_is_known_for_a_recorded_attempt_without_a_job(state: ClusterState) -> None:
    body = task_body()
    body["status"] = {"attempt": 1, "attempts": [{"number": 1, "jobName": "j", "jobUid": "job-x"}]}
    state.put_task(body)
    state.note_pods_listed("job-x", "uid-order-1", T0)
    seen = state.snapshot("uid-order-1", None)
    assert seen is not None
    assert seen.pods_listed_at == {"job-x": T0}


@given(st.permutations(range(1, 8)))
def test_the_order_of_arrival_does_not_matter(order: list[int]) -> None:
    state = ClusterState(lambda _: None, lambda *_: None, lambda _: None)
    for version in order:
        body: dict[str, Any] = task_body(version=version, priority=version)
        state.put_task(body)
    task = state.tasks.get("uid-order-1")
    assert task is not None
    assert task.spec.priority == 7


def test_what_a_full_list_did_not_show_does_not_come_to_life_by_an_older_event(state: ClusterState) -> None:
    """A standby's watch may be far behind: a task that was deleted since must not be started again."""
    state.retain(tasks=(set(), 50))
    assert not state.put_task(task_body("deleted-since", version=40))
    assert state.tasks.get("uid-deleted-since") is None
    assert state.put_task(task_body("new", version=51))


def test_a_locks_last_word_does_not_displace_the_next_holder(state: ClusterState) -> None:
    def lease(uid: str, version: int, holder: str) -> dict[str, Any]:
        labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.LOCK_LABEL: "true"}
        meta = {"name": "lock", "namespace": "shop", "uid": uid, "labels": labels}
        stamps = {"resourceVersion": str(version), "creationTimestamp": format_time(T0)}
        return {"metadata": {**meta, **stamps}, "spec": {"holderIdentity": holder}}

    state.put_lock(lease("old", 10, "uid-a/1/0/1"))
    state.put_lock(lease("new", 20, "uid-b/1/0/1"))
    state.put_lock(lease("old", 15, "uid-a/1/0/1"))
    state.drop_lock("old")
    held = state.lock(("shop", "lock"))
    assert held is not None
    assert (held.task_uid, held.token) == ("uid-b", 20)


def test_a_pod_that_is_looked_for_and_not_there_is_gone(state: ClusterState) -> None:
    state.put_task(task_body())
    state.put_job(job_body())
    state.put_pod(pod_body(phase="Running"))
    state.note_pods_listed("job-order-1-1", "uid-order-1", T0, existing={"pod-order-1-1"})
    assert not state.pods_of("uid-order-1")[0].gone
    state.note_pods_listed("job-order-1-1", "uid-order-1", T0)
    assert state.pods_of("uid-order-1")[0].gone


def test_a_task_that_is_not_at_hand_is_the_same_when_it_is_read_again(state: ClusterState) -> None:
    body = task_body(version=5, priority=5)
    body["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    applied = "kubectl.kubernetes.io/last-applied-configuration"
    body["metadata"]["annotations"] = {applied: "{}", names.RETRY_NOW_ANNOTATION: "please"}
    state.put_task(body)
    before = state.tasks.get("uid-order-1")
    for number in range(CACHED_TASKS):
        state.put_task(task_body(name=f"other-{number}"))
    again = state.tasks.get("uid-order-1")
    assert before is not None
    assert again is not None
    assert again is not before, "it was not at hand any more"
    assert again.metadata.annotations == {names.RETRY_NOW_ANNOTATION: "please"}
    assert again == before.model_copy(update={"metadata": again.metadata})
    assert len(state.tasks) == CACHED_TASKS + 1


def test_a_job_that_changed_in_nothing_that_matters_wakes_nobody(
    state: ClusterState, changed: list[str]
) -> None:
    state.put_task(task_body())
    state.put_job(job_body(version=2))
    changed.clear()
    assert state.put_job(job_body(version=3))
    assert changed == []
    state.put_job(job_body(version=4, active=1))
    assert changed == ["uid-order-1"]


def test_a_pod_that_has_run_is_not_rejected_by_a_later_view(state: ClusterState) -> None:
    state.put_task(task_body())
    state.put_job(job_body())
    now = format_time(T0)
    running = [{"name": "main", "containerID": "containerd://1", "state": {"running": {}}}]
    state.put_pod(pod_body(version=1, phase="Running", startTime=now, containerStatuses=running))
    body = pod_body(version=2, phase="Failed", startTime=now, reason="NodeAffinity")
    fields: dict[str, Any] = {"f:status": {"f:phase": {}}}
    body["metadata"]["managedFields"] = [
        {"manager": "kubelet", "subresource": "status", "time": now, "fieldsV1": fields}
    ]
    state.put_pod(body)
    (pod,) = state.pods_of("uid-order-1")
    assert (pod.started, pod.rejected) == (True, False)


def test_a_list_of_the_pods_of_an_orphan_is_in_its_snapshot(state: ClusterState) -> None:
    state.put_task(task_body())
    state.put_pod(pod_body(phase="Running"))
    state.note_pods_listed("job-order-1-1", "uid-order-1", T0, {"pod-order-1-1"})
    snapshot = state.snapshot("uid-order-1")
    assert snapshot is not None
    assert snapshot.pods_listed_at == {"job-order-1-1": T0}
