"""While the node of a pod is ready, its kubelet reports: no evidence from outside counts or is requested."""

from dataclasses import replace
from typing import Any

import pytest

from asyncflow.api import names
from asyncflow.api.asynctask import Outcome, Phase, Proof
from asyncflow.api.meta import find_condition, is_true
from asyncflow.core.lifecycle.actions import (
    CloseJob,
    Decision,
    FindPod,
    PostEvent,
    ReadPods,
    StartAttempt,
    StopJob,
)
from asyncflow.core.lifecycle.lock_fate import free_after_deletion
from asyncflow.core.lifecycle.proof_of_death import NODE_VIEW_VALID
from asyncflow.core.views.lease import LockView
from asyncflow.core.views.node import NodeView, missing_node
from support.builders import (
    alive,
    annotated,
    at,
    completed,
    failed,
    job,
    look,
    pod,
    status_of,
    task,
    task_type,
    written,
)

LEASE_END = 180 + 30 + 2 + 30
"""Of an attempt whose pod started at T0, by the builders' settings."""
READY = NodeView(name="node-1", boot="machine/boot-1", ready=True, out_of_service=False, read_at=at(0))
LATE = LEASE_END + 600
CONFIRMED = annotated(task(), {names.CONFIRMED_DEAD_ANNOTATION: "pod-job-order-1-1 nothing ever ran"})
PULLING = {"preparing": "pulling the image", "phase": "Pending"}


def node(*, ready: bool, read: float) -> dict[str, NodeView]:
    return {"node-1": replace(READY, ready=ready, read_at=at(read))}


def closed(decision: Decision) -> bool:
    return any(isinstance(action, CloseJob) for action in decision.actions)


class TestEvidence:
    """A pod whose kubelet pulls an image: the container starts afterwards, whatever is asked meanwhile."""

    @pytest.mark.parametrize(
        ("nodes", "counts"),
        [
            (node(ready=True, read=LATE), False),
            (node(ready=False, read=LATE), True),
            (node(ready=False, read=LATE - NODE_VIEW_VALID.total_seconds() - 1), False),
            ({}, False),
            ({"node-1": missing_node("node-1", at(LATE))}, True),
        ],
        ids=["ready", "not ready", "not ready some time ago", "not read yet", "deleted"],
    )
    @pytest.mark.parametrize("waived", [False, True], ids=["confirmation", "waiver"])
    def test_it_counts_only_where_the_kubelet_does_not_report(
        self, nodes: dict[str, NodeView], counts: bool, waived: bool
    ) -> None:
        of = task() if waived else CONFIRMED
        unsafe = task_type(onNodeLost="ReplaceUnsafe") if waived else task_type()
        known = {"task_type": unsafe, "nodes": nodes, "pods": (alive(job(), **PULLING),)}
        assert closed(look(of, LATE, jobs=(job(),), **known)) is counts
        being_closed = job(ending=True, stop_reason="Fenced")
        deleting = {**known, "pods": (alive(being_closed, deleting=True, **PULLING),)}
        decision = look(of, LATE, jobs=(being_closed,), **deleting)
        entries = decision.status.attempts if decision.status else ()
        assert any(entry.outcome is not None for entry in entries) is counts
        assert decision.start is None

    def test_a_pod_deleted_by_force_is_fenced_by_a_confirmation_that_says_what_to_check(self) -> None:
        over, nodes = job(ending=True, stop_reason="Fenced"), node(ready=True, read=LATE)
        known: dict[str, Any] = {"jobs": (over,), "pods": (alive(over, gone=True),), "nodes": nodes}
        stuck = look(task(), LATE, **known)
        message = status_of(stuck).message
        assert "no container of this pod runs" in message
        assert names.CONFIRMED_DEAD_ANNOTATION in message
        entry = status_of(look(CONFIRMED, LATE, **known)).attempts[0]
        assert (entry.proof_of_death, entry.reason) == (Proof.FENCED, "LeaseExpired")

    def test_one_that_was_early_does_not_count_later_either(self) -> None:
        """The container may have started since."""
        known: dict[str, Any] = {"jobs": (job(),), "pods": (alive(job(), **PULLING),)}
        decision = look(CONFIRMED, 60, **known, nodes=node(ready=True, read=60))
        assert "AnnotationIgnored" in [a.reason for a in decision.actions if isinstance(a, PostEvent)]
        rejected = written(CONFIRMED, decision)
        lost = {**known, "pods": (alive(job(), resource_version="2"),), "nodes": node(ready=False, read=LATE)}
        assert not closed(look(rejected, LATE, **lost))
        assert "give it with another note" in status_of(look(rejected, LATE, **lost)).message
        again = annotated(rejected, {names.CONFIRMED_DEAD_ANNOTATION: "pod-job-order-1-1 burnt down"})
        assert closed(look(again, LATE, **lost))

    def test_one_for_a_node_that_was_not_read_is_kept_until_it_was(self) -> None:
        known: dict[str, Any] = {"jobs": (job(),), "pods": (alive(job()),)}
        decision = look(CONFIRMED, 60, **known)
        assert FindPod() in decision.actions
        assert decision.status is None or decision.status.rejected_confirmation is None
        assert closed(look(CONFIRMED, 61, **known, nodes=node(ready=False, read=61)))

    def test_the_end_of_one_pod_says_nothing_of_another_of_the_same_job(self) -> None:
        over = failed(message="Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0")
        copied = pod(over, uid="copy", resource_version="9")
        known = {"jobs": (over,), "pods": (copied, alive(over)), "pods_listed_at": {over.uid: at(20)}}
        assert status_of(look(task(), 20, **known)).attempts[0].outcome is None

    def test_a_lock_is_not_released_on_a_confirmation_while_its_kubelet_reports(self) -> None:
        lock = LockView("shop", "lock", "lock-uid", "7", holder="uid-order-1/1/0/1", acquired=at(0))
        ended = CONFIRMED.model_copy(update={"status": task(status={"phase": "Failed"}).status})
        over = job(ending=True, stop_reason="TaskEnded")
        known = {"jobs": (over,), "lock": lock, "pods_listed_at": {over.uid: at(60)}}
        lost = node(ready=False, read=60)
        assert look(ended, 60, **known, pods=(alive(over),), nodes=lost).release is None, "not being deleted"
        assert look(ended, 60, **known, pods=(alive(over, deleting=True),), nodes=lost).release is not None


class TestLeaseExpired:
    def test_a_node_that_still_pulls_the_image_is_waited_for_and_nobody_is_asked(self) -> None:
        known = {"jobs": (job(),), "pods": (alive(job(), **PULLING),), "nodes": node(ready=True, read=LATE)}
        status = status_of(look(task(), LATE, **known))
        assert not is_true(status.conditions, "Stuck")
        assert status.reason == "ContainerCreating"
        assert "node node-1 is still pulling the image" in status.message
        assert names.CONFIRMED_DEAD_ANNOTATION not in status.message

    def test_a_container_that_outlives_its_lease_on_a_ready_node_asks_for_no_confirmation(self) -> None:
        known = {"jobs": (job(),), "pods": (alive(job()),), "nodes": node(ready=True, read=LATE)}
        status = status_of(look(task(), LATE, **known))
        assert is_true(status.conditions, "Stuck")
        assert "check the kubelet" in status.message
        assert names.CONFIRMED_DEAD_ANNOTATION not in status.message

    def test_cancel_says_what_it_waits_for(self) -> None:
        known = {"jobs": (job(),), "pods": (alive(job(), **PULLING),), "nodes": node(ready=True, read=60)}
        status = status_of(look(task(cancel=True), 60, **known))
        assert status.reason == "Stopping"
        assert "node node-1 is still pulling the image" in status.message


class TestOutcome:
    def test_a_rejected_pod_never_started_and_is_charged_to_no_deadline(self) -> None:
        over = failed(reason="BackoffLimitExceeded", message="")
        rejected = pod(over, rejected=True, reason="OutOfcpu", exit_code=None, dead=False)
        status = status_of(look(task(), 15, jobs=(over,), pods=(rejected,)))
        entry = status.attempts[0]
        assert (entry.outcome, entry.reason) == (Outcome.NOT_STARTED, "OutOfcpu")
        assert entry.proof_of_death is Proof.NEVER_STARTED
        assert (status.timeouts, status.disruptions) == (None, 1)

    def test_exit_0_after_sigterm_is_a_disruption(self) -> None:
        over = completed()
        drained = pod(
            over, phase="Succeeded", exit_code=0, interrupted_at=at(8), disruption="EvictionByEvictionAPI"
        )
        entry = status_of(look(task(), 11, jobs=(over,), pods=(drained,))).attempts[0]
        assert (entry.outcome, entry.reason) == (Outcome.DISRUPTED, "EvictionByEvictionAPI")
        deleted = replace(drained, disruption="")
        entry = status_of(look(task(), 11, jobs=(over,), pods=(deleted,))).attempts[0]
        assert (entry.outcome, entry.reason) == (Outcome.DISRUPTED, "PodDeleted")
        late = replace(drained, interrupted_at=at(11))
        assert status_of(look(task(), 11, jobs=(over,), pods=(late,))).phase is Phase.SUCCEEDED

    @pytest.mark.parametrize(("node_ready", "reason"), [(False, "NodeLost"), (True, "NotReported")])
    def test_a_node_is_lost_only_if_one_was(self, node_ready: bool, reason: str) -> None:
        over = job(ending=True, stop_reason="Fenced")
        gone = alive(over, gone=True)
        known = {"jobs": (over,), "pods": (gone,), "nodes": node(ready=node_ready, read=60)}
        entry = status_of(look(CONFIRMED, 60, **known)).attempts[0]
        assert (entry.outcome, entry.reason) == (Outcome.UNKNOWN, reason)


class TestSuspendedJob:
    def test_it_is_the_reason_and_pending_rules_apply(self) -> None:
        held = job(has_pod=False, suspended=True)
        status = status_of(look(task(), 60, jobs=(held,)))
        assert (status.reason, is_true(status.conditions, "Stuck")) == ("JobSuspended", False)
        decision = look(task(), 900, jobs=(held,))
        assert any(isinstance(a, StopJob) and a.reason == "NotStarted" for a in decision.actions)

    def test_it_is_not_overdue_however_long_it_waits(self) -> None:
        held = job(has_pod=False, suspended=True, pending_seconds=0)
        assert status_of(look(task(), 100_000, jobs=(held,))).reason == "JobSuspended"

    def test_cancel_takes_effect(self) -> None:
        held = job(has_pod=False, suspended=True)
        decision = look(task(cancel=True), 60, jobs=(held,))
        assert any(isinstance(a, StopJob) and a.reason == "Cancelled" for a in decision.actions)
        deleted = replace(held, deleting=True, stop_reason="Cancelled", without_pod=True)
        known = {"gone": frozenset({held.uid}), "pods_listed_at": {held.uid: at(61)}}
        assert status_of(look(task(cancel=True), 61, jobs=(deleted,), **known)).phase is Phase.CANCELLED

    def test_a_job_that_was_suspended_after_its_pod_ran_makes_no_second_pod(self) -> None:
        held = job(suspended=True)
        decision = look(task(), 60, jobs=(held,), pods=(alive(held, deleting=True, interrupted_at=at(50)),))
        assert any(isinstance(a, StopJob) and a.reason == "JobSuspended" for a in decision.actions)
        over = replace(held, deleting=True, stop_reason="JobSuspended")
        ended = pod(over, exit_code=0, phase="Succeeded", interrupted_at=at(50), end_time=at(55))
        entry = status_of(look(task(), 60, jobs=(over,), pods=(ended,), gone=frozenset({over.uid}))).attempts[
            0
        ]
        assert (entry.outcome, entry.reason) == (Outcome.DISRUPTED, "JobSuspended")


class TestNeverHadAPod:
    """A Job that is deleted before its pod was bound, or created."""

    LOCK = LockView("shop", "lock", "lock-uid", "7", holder="uid-order-1/1/0/1", acquired=at(0))

    def test_a_deleted_job_has_its_pods_listed_as_long_as_it_exists(self) -> None:
        decision = look(task(), 10, jobs=(job(has_pod=False, deleting=True),))
        assert ReadPods("order-1-0-1", "job-order-1-1") in decision.actions

    @pytest.mark.parametrize("without_pod", [False, True])
    def test_only_a_list_taken_while_it_existed_is_proof(self, without_pod: bool) -> None:
        gone = job(has_pod=False, deleting=True, without_pod=without_pod)
        known = {"gone": frozenset({gone.uid}), "pods_listed_at": {gone.uid: at(12)}}
        decision = look(task(), 12, jobs=(gone,), **known)
        proof = status_of(decision).attempts[0].proof_of_death
        assert proof is (Proof.NEVER_STARTED if without_pod else None)
        assert free_after_deletion(self.LOCK, (gone,), (), frozenset({gone.uid})) is without_pod

    def test_a_pod_that_is_on_record_was_there_whatever_the_job_counts(self) -> None:
        known = {"jobs": (job(),), "pods": (alive(job()),), "nodes": node(ready=True, read=10)}
        running = written(task(), look(task(), 10, **known))
        gone = job(has_pod=False, deleting=True, without_pod=True, suspended=True)
        later = {"gone": frozenset({gone.uid}), "pods_listed_at": {gone.uid: at(70)}}
        assert status_of(look(running, 70, jobs=(gone,), **later)).attempts[0].outcome is None

    @pytest.mark.parametrize("bound", [False, True])
    def test_a_pod_deleted_before_it_was_bound_frees_the_lock_of_its_task(self, bound: bool) -> None:
        gone = job(deleting=True)
        last = alive(gone, deleting=True, phase="Pending", node_name="node-1" if bound else "")
        assert free_after_deletion(self.LOCK, (gone,), (last,), frozenset({gone.uid})) is not bound


class TestIgnoredAnnotations:
    def test_a_confirmation_that_names_another_uid_is_answered_once(self) -> None:
        wrong = annotated(task(), {names.CONFIRMED_DEAD_ANNOTATION: "job-order-1-7 sure"})
        known = {"jobs": (job(),), "pods": (alive(job()),), "nodes": node(ready=False, read=LATE)}
        stuck = written(task(), look(task(), LATE, **known))
        asked = wrong.model_copy(update={"status": stuck.status})
        decision = look(asked, LATE, **known)
        assert "it names job-order-1-7" in status_of(decision).message
        assert [a.reason for a in decision.actions if isinstance(a, PostEvent)] == ["AnnotationIgnored"]
        again = look(written(asked, decision), LATE, **known)
        assert again.status is None

    @pytest.mark.parametrize("text", ["retry", "maybe job-order-1-1", "fail job-order-1-9 sure"])
    def test_so_is_a_decision_without_effect(self, text: str) -> None:
        hold = task_type(retry={"onUnknownOutcome": "Hold"})
        over = job(ending=True, stop_reason="Fenced")
        known = {
            "task_type": hold,
            "jobs": (over,),
            "pods": (alive(over, gone=True),),
            "nodes": node(ready=False, read=60),
        }
        held = written(CONFIRMED, look(CONFIRMED, 60, **known))
        assert find_condition(held.status.conditions, "DecisionRequired") is not None
        asked = annotated(held, {names.DECISION_ANNOTATION: text})
        decision = look(asked, 62, **known)
        assert "has no effect" in status_of(decision).message
        assert "AnnotationIgnored" in [a.reason for a in decision.actions if isinstance(a, PostEvent)]
        assert not isinstance(decision.start, StartAttempt)
