"""Attempts that should be over: leases, deadlines that nobody keeps, proof from outside, a person's word."""

from dataclasses import replace
from typing import Any

import pytest

from asyncflow.api import names
from asyncflow.api.asynctask import Outcome, Phase, Proof
from asyncflow.api.meta import find_condition, is_true
from asyncflow.core.lifecycle.actions import CloseJob, Decision, PostEvent, ReadPods, StopJob
from asyncflow.core.lifecycle.blocker import Blocker
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.lease import LockView
from asyncflow.core.views.node import NodeView
from support.builders import alive, annotated, at, failed, job, look, pod, status_of, task, task_type, written

LEASE_END = 180 + 30 + 2 + 30
"""Of an attempt whose pod started at T0, by the builders' settings."""
DISRUPTED = "Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0"
LOST = {"node-1": NodeView(name="node-1", boot="", ready=False, out_of_service=False, read_at=at(300))}
NODE = NodeView(name="node-1", boot="machine/boot-1", ready=True, out_of_service=False, read_at=at(0))


def lost(**fields: Any) -> Execution:
    """Return a Job that the pod garbage collector's disruption failed: what proves nothing."""
    return failed(message=DISRUPTED, **fields)


def events(decision: Decision) -> list[str]:
    return [a.reason for a in decision.actions if isinstance(a, PostEvent)]


class TestLeaseExpired:
    def test_it_makes_the_task_stuck_and_nothing_is_started(self) -> None:
        known = {"jobs": (job(),), "pods": (alive(job()),), "nodes": LOST}
        before = look(task(), LEASE_END - 1, **known)
        assert not is_true(status_of(before).conditions, "Stuck")
        decision = look(written(task(), before), LEASE_END, **known)
        assert decision.start is None
        assert decision.live
        stuck = find_condition(status_of(decision).conditions, "Stuck")
        assert stuck is not None
        assert (stuck.status, stuck.reason) == ("True", "LeaseExpired")
        assert f'{names.CONFIRMED_DEAD_ANNOTATION}="pod-job-order-1-1 ' in stuck.message
        assert events(decision) == ["LeaseExpired"]

    def test_its_event_is_posted_once(self) -> None:
        known = {"jobs": (job(),), "pods": (alive(job()),)}
        stuck = written(task(), look(task(), LEASE_END, **known))
        assert look(stuck, LEASE_END + 10, **known) == Decision(live=True)

    def test_a_node_that_comes_back_ends_it_as_a_time_out_charged_once(self) -> None:
        stuck = written(task(), look(task(), LEASE_END, jobs=(job(),), pods=(alive(job()),)))
        over = failed(reason="PodFailurePolicy", code=137, at_second=600)
        dead = pod(over, reason="DeadlineExceeded", exit_code=137, resource_version="2")
        ended = written(stuck, look(stuck, 601, jobs=(over,), pods=(dead,)))
        assert ended.status.timeouts == 1
        assert not is_true(ended.status.conditions, "Stuck")
        again = look(ended, 602, jobs=(over,), pods=(dead,))
        assert (again.status or ended.status).timeouts == 1

    def test_a_job_that_outlives_its_deadline_is_noticed(self) -> None:
        waits = job(has_pod=False, deadline_seconds=60, lease_expires=at(2000))
        decision = look(task(), 121, jobs=(waits,))
        assert status_of(decision).reason == "JobOverdue"
        assert is_true(status_of(decision).conditions, "Stuck")
        assert decision.live

    def test_it_is_not_looked_at_again_and_again_once_its_lease_has_run_out_too(self) -> None:
        waits = job(has_pod=False, deadline_seconds=60, lease_expires=at(2000))
        stuck = written(task(), look(task(), 121, jobs=(waits,)))
        later = look(stuck, 2001, jobs=(waits,), pods_listed_at={waits.uid: at(2000)})
        assert later.live
        assert later.wake is None or later.wake > at(2001)


class TestFenced:
    def test_an_administrators_word_is_proof_and_stands_in_the_history(self) -> None:
        word = annotated(task(), {names.CONFIRMED_DEAD_ANNOTATION: "job-order-1-1 instance was terminated"})
        decision = look(word, 60, jobs=(lost(),), pods_listed_at={"job-order-1-1": at(59)})
        entry = status_of(decision).attempts[0]
        assert entry.proof_of_death is Proof.FENCED
        assert "instance was terminated" in entry.proof_detail
        assert (entry.outcome, entry.reason) == (Outcome.DISRUPTED, "Disrupted"), "as its Job says"
        assert "Fenced" in events(decision)
        assert status_of(decision).disruptions == 1

    def test_a_word_about_another_attempt_is_none(self) -> None:
        word = annotated(task(), {names.CONFIRMED_DEAD_ANNOTATION: "job-order-1-7"})
        decision = look(word, 60, jobs=(lost(),), pods_listed_at={"job-order-1-1": at(59)})
        assert is_true(status_of(decision).conditions, "Stuck")

    def test_a_job_that_is_open_is_closed_before_the_word_counts(self) -> None:
        word = annotated(task(), {names.CONFIRMED_DEAD_ANNOTATION: "pod-job-order-1-1"})
        lost_node = {"node-1": replace(LOST["node-1"], read_at=at(60))}
        decision = look(word, 60, jobs=(job(),), pods=(alive(job()),), nodes=lost_node)
        assert CloseJob("order-1-0-1", "job-order-1-1", "Fenced") in decision.actions
        assert decision.start is None
        assert decision.live
        closed = job(ending=True, stop_reason="Fenced")
        decision = look(word, 61, jobs=(closed,), pods=(alive(closed),), nodes=lost_node)
        assert status_of(decision).attempts[0].outcome is None, (
            "its kubelet could still start what is left of it"
        )
        assert ReadPods(closed.name, closed.uid) in decision.actions
        decision = look(word, 62, jobs=(closed,), pods=(alive(closed, deleting=True),), nodes=lost_node)
        assert status_of(decision).attempts[0].proof_of_death is Proof.FENCED

    def test_an_unfinished_job_of_a_dead_attempt_holds_no_slot(self) -> None:
        word = annotated(task(), {names.CONFIRMED_DEAD_ANNOTATION: "pod-job-order-1-1"})
        closed = job(ending=True, stop_reason="Fenced")
        lost_node = {"node-1": replace(LOST["node-1"], read_at=at(60))}
        known = {"jobs": (closed,), "pods": (alive(closed, deleting=True),), "nodes": lost_node}
        fenced = written(word, look(word, 61, **known))
        decision = look(fenced, 1000, **known)
        assert decision.start is not None
        assert decision.start.attempt.number == 2
        assert not decision.live

    def test_the_out_of_service_taint_is_proof(self) -> None:
        known = {"jobs": (lost(),), "pods": (pod(lost(), dead=False, exit_code=None),)}
        off = replace(NODE, out_of_service=True, ready=False, read_at=at(30))
        alive_yet = replace(off, ready=True)
        decision = look(task(), 60, nodes={"node-1": alive_yet}, pods_listed_at={lost().uid: at(59)}, **known)
        assert is_true(status_of(decision).conditions, "Stuck"), "its kubelet is heard of"
        before = replace(off, read_at=at(-1))
        decision = look(task(), 60, nodes={"node-1": before}, pods_listed_at={lost().uid: at(59)}, **known)
        assert is_true(status_of(decision).conditions, "Stuck"), "the taint of another day"
        decision = look(task(), 60, nodes={"node-1": off}, pods_listed_at={lost().uid: at(59)}, **known)
        entry = status_of(decision).attempts[0]
        assert (entry.proof_of_death, entry.node_name) == (Proof.FENCED, "node-1")
        assert "out-of-service" in entry.proof_detail

    @pytest.mark.parametrize(
        ("node", "seconds", "proven"),
        [
            (replace(NODE, boot="machine/boot-2"), LEASE_END + 60, True),
            (replace(NODE, boot="machine/boot-2"), LEASE_END + 59, False),
            (replace(NODE, boot="machine/boot-2", ready=False), LEASE_END + 600, False),
            (replace(NODE, boot="other/boot-2"), LEASE_END + 600, False),
            (NODE, LEASE_END + 600, False),
        ],
    )
    def test_another_boot_of_the_same_machine_is_proof_once_the_lease_has_run_out(
        self, node: NodeView, seconds: float, proven: bool
    ) -> None:
        known = {"jobs": (job(),), "pods": (alive(job()),)}
        running = written(task(), look(task(), 5, nodes={"node-1": NODE}, **known))
        assert running.status.attempts[0].node_boot == "machine/boot-1"
        gone = {"jobs": (lost(),), "pods": (pod(lost(), dead=False, resource_version="2"),)}
        decision = look(
            running, seconds, nodes={"node-1": node}, pods_listed_at={lost().uid: at(seconds)}, **gone
        )
        assert (status_of(decision).attempts[0].proof_of_death is Proof.FENCED) is proven
        assert is_true(status_of(decision).conditions, "Stuck") is not proven

    def test_an_expiry_that_ends_an_attempt_draws_on_the_time_out_budget_once(self) -> None:
        word = annotated(task(), {names.CONFIRMED_DEAD_ANNOTATION: "pod-job-order-1-1"})
        over = failed(reason="DeadlineExceeded", message="")
        decision = look(word, LEASE_END + 5, jobs=(over,), pods=(pod(over, dead=False, exit_code=None),))
        status = status_of(decision)
        assert (status.timeouts, status.failures) == (1, None)
        assert status.attempts[0].reason == "LeaseExpired"


class TestReplaceUnsafe:
    def test_it_waives_the_proof_when_the_lease_has_run_out_and_says_so(self) -> None:
        unsafe = task_type(onNodeLost="ReplaceUnsafe")
        known = {"task_type": unsafe, "jobs": (lost(),), "pods": (pod(lost(), dead=False),)}
        waiting = look(task(), LEASE_END - 1, pods_listed_at={lost().uid: at(LEASE_END - 1)}, **known)
        assert is_true(status_of(waiting).conditions, "Stuck")
        assert waiting.wake is not None
        assert waiting.wake <= at(LEASE_END)
        decision = look(task(), LEASE_END, **known)
        entry = status_of(decision).attempts[0]
        assert entry.proof_of_death is Proof.WAIVED
        assert "ReplacedUnsafe" in events(decision)
        assert status_of(decision).disruptions == 1

    def test_an_open_job_is_closed_first(self) -> None:
        known = {"jobs": (job(),), "pods": (alive(job()),), "nodes": LOST}
        decision = look(task(), LEASE_END, task_type=task_type(onNodeLost="ReplaceUnsafe"), **known)
        assert CloseJob("order-1-0-1", "job-order-1-1", "Fenced") in decision.actions
        assert decision.start is None

    def test_it_is_not_for_locks(self) -> None:
        decision = look(task(lockKey="k"), task_type=task_type(onNodeLost="ReplaceUnsafe"))
        assert decision.start is None
        assert is_true(status_of(decision).conditions, "Invalid")
        assert "lockKey" in status_of(decision).message
        mended = look(written(task(lockKey="k"), decision))
        assert mended.start is not None


class TestPending:
    def test_a_pod_that_no_node_takes_is_ended_with_the_reason(self) -> None:
        waits = alive(job(), phase="Pending", node_name="", start_time=None)
        waits = replace(waits, blocked_by="Unschedulable", blocked_message="0/1 nodes are available")
        known = {"jobs": (job(),), "pods": (waits,)}
        early = look(task(), 899, **known)
        assert status_of(early).reason == "Unschedulable"
        assert early.wake == at(900)
        decision = look(task(), 900, **known)
        stop = StopJob("order-1-0-1", "job-order-1-1", "NotStarted", "Unschedulable: 0/1 nodes are available")
        assert stop in decision.actions

    def test_it_is_counted_as_a_time_out_that_never_started(self) -> None:
        ended = job(
            failed=True,
            reason="BackoffLimitExceeded",
            finish_time=at(901),
            stop_reason="NotStarted",
            stop_message="Unschedulable: 0/1 nodes are available",
            never_bound=True,
        )
        decision = look(task(), 905, jobs=(ended,), pods_listed_at={ended.uid: at(904)})
        entry = status_of(decision).attempts[0]
        assert (entry.outcome, entry.proof_of_death) == (Outcome.NOT_STARTED, Proof.NEVER_STARTED)
        assert entry.message == "Unschedulable: 0/1 nodes are available"
        assert status_of(decision).timeouts == 1

    def test_a_backlog_of_the_job_controller_costs_nobodys_budget(self) -> None:
        bare = job(has_pod=False)
        behind = Blocker("JobControllerBacklog", "not made yet", until=at(2000), job_uid=bare.uid)
        decision = look(task(), 1000, jobs=(bare,), blocker=behind)
        assert not [a for a in decision.actions if isinstance(a, StopJob)]
        full = Blocker("QuotaExceeded", "exceeded quota", until=at(2000), job_uid=bare.uid)
        decision = look(task(), 1000, jobs=(bare,), blocker=full)
        assert [a.reason for a in decision.actions if isinstance(a, StopJob)] == ["NotStarted"]

    def test_a_job_that_never_had_a_pod_never_started(self) -> None:
        ended = failed(reason="DeadlineExceeded", message="", has_pod=False, stop_reason="Cancelled")
        decision = look(task(cancel=True), 20, jobs=(ended,), pods_listed_at={ended.uid: at(19)})
        assert status_of(decision).phase is Phase.CANCELLED
        assert status_of(decision).attempts[0].proof_of_death is Proof.NEVER_STARTED

    def test_an_image_that_does_not_exist_is_said_at_once(self) -> None:
        waits = alive(job(), phase="Pending", blocked_by="ImagePullBackOff", blocked_message="no such image")
        decision = look(task(), 10, jobs=(job(),), pods=(waits,))
        assert status_of(decision).reason == "ImagePullBackOff"
        assert is_true(status_of(decision).conditions, "Waiting")
        said_anew = replace(waits, blocked_message="said in other words", resource_version="2")
        told = written(task(), decision)
        assert look(told, 20, jobs=(job(),), pods=(said_anew,)).status is None

    def test_an_old_view_of_a_pod_without_a_node_proves_nothing(self) -> None:
        unbound = alive(job(), phase="Pending", node_name="", start_time=None)
        decision = look(task(), 60, jobs=(lost(),), pods=(unbound,))
        assert decision.actions == (ReadPods("order-1-0-1", "job-order-1-1"),)
        decision = look(task(), 60, jobs=(lost(),), pods=(unbound,), pods_listed_at={lost().uid: at(60)})
        assert is_true(status_of(decision).conditions, "Stuck")


def test_a_job_that_repeats_a_recorded_attempt_is_stopped() -> None:
    ended = failed()
    retried = written(task(), look(task(), 11, jobs=(ended,), pods=(pod(ended),)))
    stale = replace(job(), uid="another-uid")
    decision = look(retried, 500, jobs=(ended, stale), pods=(pod(ended),))
    assert decision.start is None
    assert decision.live
    assert StopJob("order-1-0-1", "another-uid", "TaskEnded") in decision.actions


def test_a_repeated_attempt_counts_as_running_while_its_pod_has_its_grace() -> None:
    ended = failed()
    retried = written(task(), look(task(), 11, jobs=(ended,), pods=(pod(ended),)))
    closing = replace(job(), uid="another-uid", ending=True)
    assert look(retried, 500, jobs=(ended, closing), pods=(pod(ended),)).start is None


def test_a_lock_whose_last_create_may_be_under_way_is_not_given_up() -> None:
    held = LockView("shop", "lock", "uid-lock", "7", "uid-order-1/1/0/1", at(0))
    waits = task(lockKey="k", suspend=True)
    known = {"lock": held, "last_create": at(590)}
    early = look(waits, 700, **known)
    assert early.release is None
    assert early.wake == at(590 + 600)
    assert look(waits, 590 + 600, **known).release is not None


def test_the_job_of_an_ended_task_that_holds_a_lock_without_proof_stays() -> None:
    held = LockView("shop", "lock", "uid-lock", "7", "uid-order-1/1/0/1", at(0))
    ended = task(lockKey="k", status={"phase": "Failed"})
    known = {"jobs": (lost(),), "pods": (pod(lost(), dead=False),), "lock": held}
    decision = look(ended, 5000, **known)
    assert decision.release is None
    assert decision.actions == (ReadPods("order-1-0-1", "job-order-1-1"),)
    decision = look(ended, 5000, **known, pods_listed_at={"job-order-1-1": at(4000)})
    assert (decision.release, decision.actions) == (None, ())


def test_a_run_does_not_go_back() -> None:
    again = task(status={"phase": "Pending", "run": 2, "attempt": 1, "runTime": "2026-01-01T12:00:00Z"})
    late = failed(2, stop_reason="TaskEnded")
    status = status_of(look(again, 20, jobs=(late,), pods=(pod(late),)))
    assert (status.run, status.timeouts) == (2, None)
