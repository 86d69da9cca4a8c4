"""The rules of a task's life, by example."""

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from asyncflow.api.asynctask import Outcome, Phase, Proof
from asyncflow.api.meta import find_condition, is_true
from asyncflow.core.lifecycle.actions import (
    Decision,
    DeleteJob,
    ExplainJob,
    FindPod,
    PostEvent,
    ReadPods,
    StopJob,
)
from asyncflow.core.lifecycle.blocker import Blocker
from support.builders import alive, at, completed, failed, job, look, pod, status_of, task, task_type, written


class TestStart:
    def test_a_new_task_starts_its_first_attempt_without_a_write(self) -> None:
        decision = look(task())
        assert decision.start is not None
        assert (decision.start.attempt.number, decision.start.attempt.run) == (1, 1)
        assert decision.status is None
        assert not decision.live

    def test_the_tasks_own_priority_goes_before_the_types(self) -> None:
        assert look(task(priority=7), task_type=task_type(priority=3)).start.priority == 7  # type: ignore[union-attr]
        assert look(task(), task_type=task_type(priority=3)).start.priority == 3  # type: ignore[union-attr]

    def test_it_waits_for_its_moment_and_says_so(self) -> None:
        decision = look(task(notBefore="2026-01-01T13:00:00Z"))
        assert decision.start is None
        assert status_of(decision).reason == "NotBefore"
        assert decision.wake == at(3600)

    @pytest.mark.parametrize(
        ("known", "spec", "reason"),
        [
            ({"task_type": None}, {}, "UnknownTaskType"),
            ({"task_type": task_type(suspend=True)}, {}, "TaskTypeSuspended"),
            ({"task_type": task_type(ready=False)}, {}, "TaskTypeNotReady"),
            ({}, {"suspend": True}, "Suspended"),
        ],
    )
    def test_what_keeps_it_from_starting_is_its_reason(
        self, known: dict[str, Any], spec: dict[str, Any], reason: str
    ) -> None:
        decision = look(task(**spec), **known)
        assert decision.start is None
        assert status_of(decision).reason == reason
        assert is_true(status_of(decision).conditions, "Waiting")

    def test_an_unknown_type_is_told_once_by_an_event_that_names_the_remedy(self) -> None:
        first = look(task(), task_type=None)
        (event,) = [a for a in first.actions if isinstance(a, PostEvent)]
        assert "create it" in event.message
        again = look(written(task(), first), 60, task_type=None)
        assert again == Decision()

    def test_a_type_that_was_not_tried_yet_is_waited_for_without_a_write(self) -> None:
        assert look(task(), task_type=task_type(ready=None)) == Decision()

    def test_a_blocker_shows_and_goes_away(self) -> None:
        blocker = Blocker("QuotaExceeded", "exceeded quota: q", until=at(5))
        decision = look(task(), 1, blocker=blocker)
        assert status_of(decision).reason == "QuotaExceeded"
        assert decision.wake == at(5)
        later = look(written(task(), decision), 6, blocker=blocker)
        assert later.start is not None
        assert later.status is None, "it is said until a start has succeeded"
        told = written(task(), decision)
        anew = Blocker("QuotaExceeded", "exceeded quota: q, used: 7", until=at(15))
        assert look(told, 7, blocker=anew).status is None, "each new wording would be a write"
        free = look(told, 20)
        assert free.start is not None
        assert not is_true(status_of(free).conditions, "Waiting")

    def test_a_blocker_that_is_over_starts_nothing_that_is_suspended(self) -> None:
        blocker = Blocker("QuotaExceeded", "exceeded quota: q", until=at(5))
        decision = look(task(suspend=True), 6, blocker=blocker)
        assert decision.start is None
        assert status_of(decision).reason == "Suspended"

    def test_what_held_up_one_job_does_not_hold_up_the_next(self) -> None:
        assert (
            look(task(), 1, blocker=Blocker("PodNotCreated", "", until=at(5), job_uid="job-order-1-1")).start
            is not None
        )

    def test_a_payload_that_is_too_large_fails_the_task_and_names_the_bound(self) -> None:
        decision = look(task(payload={"x": "y" * 40_000}))
        assert status_of(decision).phase is Phase.FAILED
        assert "32768" in status_of(decision).message
        assert decision.start is None


class TestRunning:
    def test_it_is_not_written_before_it_has_lasted_a_moment(self) -> None:
        decision = look(task(), 1, jobs=(job(),))
        assert decision.status is None
        assert decision.live
        assert decision.wake == at(4)

    def test_then_it_is_written_with_its_lease(self) -> None:
        seen = {"jobs": (job(),), "pods": (alive(job(), start_time=at(3)),)}
        decision = look(task(), 4, **seen)
        status = status_of(decision)
        assert (status.phase, status.attempt) == (Phase.RUNNING, 1)
        assert status.lease is not None
        assert status.lease.holder == "order-1-0-1"
        assert status.lease.expire_time == at(3 + 180 + 30 + 2 + 30), "from the start of its pod"
        again = look(written(task(), decision), 5, **seen)
        assert again == Decision(live=True, wake=status.lease.expire_time)

    def test_its_pod_is_read_once_to_know_its_start(self) -> None:
        assert look(task(), 4, jobs=(job(),)).actions == (FindPod(),)
        status = status_of(look(task(), 30, jobs=(job(),), pods_listed_at={"job-order-1-1": at(4)}))
        assert status.lease is not None
        assert status.lease.expire_time == at(1322), "until its pod is seen, the lease is the provisional one"

    def test_a_lease_that_was_reckoned_from_the_pod_is_not_taken_back(self) -> None:
        running = written(task(), look(task(), 4, jobs=(job(),), pods=(alive(job()),)))
        unseen = look(running, 9, jobs=(job(),), pods_listed_at={"job-order-1-1": at(9)})
        assert unseen.status is None

    def test_cancel_stops_the_job_and_says_so(self) -> None:
        decision = look(task(cancel=True), 1, jobs=(job(),))
        assert StopJob("order-1-0-1", "job-order-1-1", "Cancelled") in decision.actions
        assert status_of(decision).reason == "Stopping"

    def test_a_job_that_is_being_stopped_is_not_stopped_again(self) -> None:
        decision = look(task(cancel=True), 5, jobs=(job(stop_reason="Cancelled"),))
        assert not [a for a in decision.actions if isinstance(a, StopJob)]

    def test_the_total_deadline_stops_the_job(self) -> None:
        own = task(deadlines={"totalSeconds": 100})
        assert look(own, 99, jobs=(job(),), pods=(alive(job()),)).wake == at(100)
        assert [a for a in look(own, 100, jobs=(job(),)).actions if isinstance(a, StopJob)]

    def test_a_job_without_a_pod_is_asked_why(self) -> None:
        bare = job(has_pod=False)
        assert look(task(), 5, jobs=(bare,)).wake == at(8)
        assert ExplainJob(bare.name, bare.uid) in look(task(), 8, jobs=(bare,)).actions
        blocked = look(
            task(),
            9,
            jobs=(bare,),
            blocker=Blocker("QuotaExceeded", "exceeded quota: q", until=at(13), job_uid=bare.uid),
        )
        assert status_of(blocked).reason == "QuotaExceeded"
        assert blocked.live

    def test_a_suspended_task_keeps_its_running_attempt(self) -> None:
        decision = look(task(suspend=True), 4, jobs=(job(),), pods=(alive(job()),))
        assert decision.live
        assert decision.actions == ()


class TestEnd:
    def test_success_is_one_write(self) -> None:
        ended = completed()
        decision = look(task(), 11, jobs=(ended,), pods=(pod(ended, phase="Succeeded", exit_code=0),))
        status = status_of(decision)
        assert status.phase is Phase.SUCCEEDED
        assert is_true(status.conditions, "Complete")
        assert status.attempts[0].proof_of_death is Proof.NODE
        assert not decision.live
        assert decision.actions == ()

    def test_a_failure_is_retried_after_its_back_off(self) -> None:
        own = task_type(retry={"backoff": {"initialSeconds": 10, "jitterPercent": 0}})
        decision = look(task(), 11, task_type=own, jobs=(failed(),), pods=(pod(failed()),))
        status = status_of(decision)
        assert (status.phase, status.reason, status.failures) == (Phase.PENDING, "BackOff", 1)
        assert decision.wake == status.retry_time == at(20)
        assert decision.start is None
        after = look(written(task(), decision), 20, task_type=own, jobs=(failed(),), pods=(pod(failed()),))
        assert after.start is not None
        assert after.start.attempt.number == 2

    def test_the_outcome_is_on_record_before_the_next_attempt_starts(self) -> None:
        decision = look(task(), 5000, jobs=(failed(),), pods=(pod(failed()),))
        assert decision.start is None
        assert status_of(decision).failures == 1
        assert (
            look(written(task(), decision), 5000, jobs=(failed(),), pods=(pod(failed()),)).start is not None
        )

    @pytest.mark.parametrize(("limit", "phase"), [(0, Phase.FAILED), (1, Phase.PENDING)])
    def test_failures_are_bounded(self, limit: int, phase: Phase) -> None:
        decision = look(task(retry={"maxRetries": limit}), 11, jobs=(failed(),), pods=(pod(failed()),))
        assert status_of(decision).phase is phase

    def test_timeouts_have_a_budget_of_their_own(self) -> None:
        late = failed(code=137, at_second=180)
        ended = pod(late, reason="DeadlineExceeded", exit_code=137)
        decision = look(task(retry={"maxRetries": 0, "maxTimeouts": 1}), 185, jobs=(late,), pods=(ended,))
        assert (status_of(decision).timeouts, status_of(decision).failures) == (1, None)
        assert status_of(decision).phase is Phase.PENDING
        decision = look(task(retry={"maxTimeouts": 0}), 185, jobs=(late,), pods=(ended,))
        assert status_of(decision).reason == "MaxTimeoutsExceeded"

    def test_an_exit_code_can_be_final(self) -> None:
        own = task_type(retry={"nonRetriableExitCodes": [3]})
        decision = look(task(), 11, task_type=own, jobs=(failed(code=3),), pods=(pod(failed(), exit_code=3),))
        assert status_of(decision).reason == "NonRetriableExitCode"

    def test_an_outcome_is_folded_in_once(self) -> None:
        seen = {"jobs": (failed(),), "pods": (pod(failed()),)}
        first = look(task(), 11, **seen)
        again = look(written(task(), first), 12, **seen)
        assert again.status is None

    def test_a_cancelled_task_ends_when_its_attempt_is_dead(self) -> None:
        stopped = failed(reason="DeadlineExceeded", message="", stop_reason="Cancelled")
        decision = look(task(cancel=True), 15, jobs=(stopped,), pods=(pod(stopped, exit_code=143),))
        assert status_of(decision).phase is Phase.CANCELLED
        assert status_of(decision).attempts[0].outcome is Outcome.CANCELLED

    def test_a_cancel_that_came_too_late_does_not_undo_a_success(self) -> None:
        assert status_of(look(task(cancel=True), 12, jobs=(completed(),))).phase is Phase.SUCCEEDED

    def test_a_success_waits_for_the_event_of_its_pod_for_a_moment(self) -> None:
        waits = look(task(), 11, jobs=(completed(),))
        assert (waits.status, waits.wake, waits.live) == (None, at(12), True)
        assert status_of(look(task(), 12, jobs=(completed(),))).phase is Phase.SUCCEEDED

    def test_a_task_that_never_ran_is_cancelled_at_once(self) -> None:
        assert status_of(look(task(cancel=True))).phase is Phase.CANCELLED

    def test_a_task_ends_with_its_last_attempt_or_when_it_is_ended(self) -> None:
        ended = failed(1, at_second=10)
        failed_once = look(task(), 500, jobs=(ended,), pods=(pod(ended),))
        waiting = written(task(cancel=True), failed_once)
        assert status_of(look(waiting, 9000, jobs=(ended,))).completion_time == at(9000)
        final = look(task(retry={"maxRetries": 0}), 500, jobs=(ended,), pods=(pod(ended),))
        assert status_of(final).completion_time == at(10)

    def test_the_total_deadline_ends_a_waiting_task(self) -> None:
        own = task(deadlines={"totalSeconds": 100})
        assert status_of(look(own, 100)).reason == "TotalDeadlineExceeded"
        assert look(own, 40).start.total_left == 60  # type: ignore[union-attr]

    def test_the_history_is_bounded_and_counts_on(self) -> None:
        own = task_type(
            retention={"historyLimit": 2}, retry={"maxRetries": 100, "backoff": {"jitterPercent": 0}}
        )
        current = task()
        for number in range(1, 5):
            ended = failed(number, at_second=number * 10)
            decision = look(current, number * 10 + 1, task_type=own, jobs=(ended,), pods=(pod(ended),))
            current = written(current, decision)
        assert [a.number for a in current.status.attempts] == [3, 4]
        assert (current.status.attempt, current.status.failures) == (4, 4)

    def test_an_old_job_whose_record_has_left_the_history_is_not_counted_again(self) -> None:
        own = task_type(retention={"historyLimit": 1}, retry={"maxRetries": 100})
        current = task(
            status={
                "attempt": 2,
                "failures": 2,
                "attempts": [{"number": 2, "jobName": "j", "outcome": "Failed"}],
            }
        )
        decision = look(current, 20, task_type=own, jobs=(failed(1), failed(2)), pods=())
        assert decision.status is None or decision.status.failures == 2


class TestProof:
    def test_a_disrupted_job_is_no_proof(self) -> None:
        lost = failed(message="Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0")
        decision = look(task(), 60, jobs=(lost,), pods_listed_at={lost.uid: at(60)})
        assert decision.start is None
        assert decision.live
        assert is_true(status_of(decision).conditions, "Stuck")
        assert status_of(decision).phase is not Phase.FAILED

    def test_the_kubelets_word_on_the_pod_is(self) -> None:
        lost = failed(message="Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0")
        witness = pod(lost, disruption="TerminationByKubelet", exit_code=143)
        decision = look(task(), 60, jobs=(lost,), pods=(witness,))
        assert status_of(decision).attempts[0].outcome is Outcome.DISRUPTED
        assert (status_of(decision).disruptions, status_of(decision).failures) == (1, None)

    def test_a_failed_pod_whose_container_may_run_on_is_no_proof(self) -> None:
        lost = failed(message="Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0")
        ghost = pod(lost, disruption="DeletionByPodGC", exit_code=None, dead=False)
        decision = look(task(), 60, jobs=(lost,), pods=(ghost,), pods_listed_at={lost.uid: at(60)})
        assert decision.start is None
        assert is_true(status_of(decision).conditions, "Stuck")

    def test_a_vanished_job_is_judged_by_its_pods(self) -> None:
        gone = job()
        decision = look(task(), 20, jobs=(gone,), gone=frozenset({gone.uid}))
        assert decision.actions == (ReadPods(gone.name, gone.uid),)
        decision = look(
            task(), 20, jobs=(gone,), gone=frozenset({gone.uid}), pods_listed_at={gone.uid: at(20)}
        )
        assert is_true(status_of(decision).conditions, "Stuck")
        decision = look(
            task(), 20, jobs=(gone,), gone=frozenset({gone.uid}), pods=(pod(gone, exit_code=143),)
        )
        assert status_of(decision).attempts[0].outcome is Outcome.UNKNOWN
        assert status_of(decision).phase is Phase.PENDING

    def test_a_recorded_attempt_without_a_job_is_not_forgotten(self) -> None:
        running = written(task(), look(task(), 4, jobs=(job(),), pods=(alive(job()),)))
        decision = look(running, 20)
        assert decision.start is None
        assert decision.actions == (ReadPods("order-1-0-1", "job-order-1-1"),)

    def test_a_stuck_attempt_is_on_record_and_survives_its_job(self) -> None:
        lost = failed(message="Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0")
        stuck = written(task(), look(task(), 60, jobs=(lost,), pods_listed_at={lost.uid: at(60)}))
        assert [a.number for a in stuck.status.attempts] == [1]
        later = look(stuck, 200, pods_listed_at={lost.uid: at(199)})
        assert later.start is None
        assert later.live

    def test_a_pod_without_job_or_record_is_an_attempt_that_exists(self) -> None:
        decision = look(task(), 60, pods=(alive(job()),))
        assert decision.start is None
        assert decision.live

    def test_a_witness_that_says_too_little_is_asked_at_once(self) -> None:
        lost = failed(message="Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0")
        ghost = pod(lost, disruption="DeletionByPodGC", exit_code=None, dead=False)
        assert ReadPods(lost.name, lost.uid) in look(task(), 60, jobs=(lost,), pods=(ghost,)).actions

    def test_a_kill_by_the_jobs_own_deadline_is_a_time_out(self) -> None:
        ended = failed(reason="DeadlineExceeded", message="")
        decision = look(task(), 20, jobs=(ended,), pods=(pod(ended, exit_code=143),))
        assert status_of(decision).attempts[0].outcome is Outcome.TIMED_OUT

    def test_a_stuck_task_looks_again_and_recovers(self) -> None:
        lost = failed(message="Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0")
        stuck = written(task(), look(task(), 60, jobs=(lost,), pods_listed_at={lost.uid: at(60)}))
        assert look(stuck, 62, jobs=(lost,), pods_listed_at={lost.uid: at(60)}).wake == at(63)
        assert look(stuck, 63, jobs=(lost,), pods_listed_at={lost.uid: at(60)}).actions == (
            ReadPods(lost.name, lost.uid),
        )
        healed = look(stuck, 71, jobs=(lost,), pods=(pod(lost, exit_code=137, disruption="x"),))
        assert not is_true(status_of(healed).conditions, "Stuck")

    def test_a_failed_job_gives_its_pod_a_moment_to_show(self) -> None:
        ended = failed(at_second=10)
        assert look(task(), 11, jobs=(ended,)) == Decision(live=True, wake=at(12))
        assert look(task(), 12, jobs=(ended,)).actions == (ReadPods(ended.name, ended.uid),)

    def test_without_its_pod_the_jobs_message_still_tells_the_exit_code(self) -> None:
        ended = failed(code=3)
        decision = look(task(), 15, jobs=(ended,), pods_listed_at={ended.uid: at(15)})
        (entry,) = status_of(decision).attempts
        assert (entry.outcome, entry.exit_code, entry.proof_of_death) == (Outcome.FAILED, 3, Proof.NODE)

    def test_a_pod_that_was_never_bound_never_started(self) -> None:
        ended = job(failed=True, reason="DeadlineExceeded", finish_time=at(900))
        decision = look(
            task(),
            905,
            jobs=(ended,),
            pods=(pod(ended, node_name="", exit_code=None, dead=False, deleting=True),),
        )
        (entry,) = status_of(decision).attempts
        assert (entry.outcome, entry.proof_of_death) == (Outcome.NOT_STARTED, Proof.NEVER_STARTED)


class TestAfterTheEnd:
    ENDED: ClassVar = {"phase": "Succeeded", "attempt": 2}

    def test_what_still_runs_is_stopped(self) -> None:
        decision = look(task(status=self.ENDED), 20, jobs=(job(3),))
        assert [a for a in decision.actions if isinstance(a, StopJob)]
        assert decision.live

    def test_jobs_are_deleted_ten_minutes_after_their_end(self) -> None:
        jobs = (failed(1), completed(2, at_second=20))
        decision = look(task(status=self.ENDED), 21, jobs=jobs)
        assert decision == Decision(wake=at(610))
        decision = look(task(status=self.ENDED), 610, jobs=jobs)
        assert decision.actions == (DeleteJob("order-1-0-1", "job-order-1-1"),)
        assert decision.wake == at(620)
        later = look(task(status=self.ENDED), 620, jobs=jobs[1:])
        assert later.actions == (DeleteJob("order-1-0-2", "job-order-1-2"),)

    def test_nothing_is_done_for_a_task_that_is_being_deleted(self) -> None:
        going = task()
        meta = going.metadata.model_copy(update={"deletion_timestamp": at(5)})
        going = going.model_copy(update={"metadata": meta})
        assert look(going, 6) == Decision()
        assert look(going, 6, jobs=(job(),)) == Decision(live=True)


def test_the_waiting_condition_keeps_the_time_of_its_change() -> None:
    first = look(task(), 0, task_type=None)
    second = look(written(task(), first), 100, task_type=task_type(suspend=True))
    condition = find_condition(status_of(second).conditions, "Waiting")
    assert condition is not None
    assert (condition.reason, condition.last_transition_time) == ("TaskTypeSuspended", at(0))


def test_a_running_pod_is_never_taken_for_dead() -> None:
    ended = failed(message="", reason="DeadlineExceeded")
    alive = replace(pod(ended), phase="Running", exit_code=None, dead=False)
    decision = look(task(), 60, jobs=(ended,), pods=(alive,), pods_listed_at={ended.uid: at(60)})
    assert decision.start is None
    assert decision.live
