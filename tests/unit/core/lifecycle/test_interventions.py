"""What people decide and ask for: Hold, decisions, retry-now, snooze, in every phase."""

from typing import Any

import pytest

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, Outcome, Phase, Verdict
from asyncflow.api.meta import find_condition, is_true
from asyncflow.core.lifecycle.actions import PostEvent
from asyncflow.core.scheduling.admission import Gate
from asyncflow.core.views.execution import Execution
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

HOLD = task_type(retry={"onDisruption": "Hold", "onUnknownOutcome": "Hold"})
DRAINED = "Pod shop/p has condition DisruptionTarget matching FailJob rule at index 0"


def drained() -> Execution:
    return failed(message=DRAINED)


def evicted(known: Any = None, **spec: Any) -> AsyncTask:
    """Return a task whose attempt was drained from its node, and died there."""
    over = drained()
    witness = pod(over, disruption="EvictionByEvictionAPI", exit_code=143)
    return written(
        task(**spec), look(task(**spec), 11, task_type=known or HOLD, jobs=(over,), pods=(witness,))
    )


class TestHold:
    def test_it_asks_for_a_decision_and_frees_the_slot(self) -> None:
        held = evicted()
        assert held.status.attempts[0].outcome is Outcome.DISRUPTED
        condition = find_condition(held.status.conditions, "DecisionRequired")
        assert condition is not None
        assert condition.status == "True"
        assert f'{names.DECISION_ANNOTATION}="retry|fail|succeed job-order-1-1 ' in condition.message
        decision = look(held, 5000, task_type=HOLD, jobs=(drained(),))
        assert decision.start is None
        assert not decision.live
        assert decision.status is None

    @pytest.mark.parametrize(
        ("word", "phase", "reason"),
        [
            ("fail", Phase.FAILED, "FailedByDecision"),
            ("succeed", Phase.SUCCEEDED, "SucceededByDecision"),
            ("retry", Phase.PENDING, ""),
        ],
    )
    def test_a_person_decides(self, word: str, phase: Phase, reason: str) -> None:
        told = annotated(evicted(), {names.DECISION_ANNOTATION: f"{word} job-order-1-1 asked the bank"})
        decision = look(told, 500, task_type=HOLD, jobs=(drained(),))
        status = status_of(decision)
        assert (status.phase, status.reason) == (phase, reason)
        assert status.attempts[0].decision is Verdict(word.capitalize())
        assert status.attempts[0].decision_note == "asked the bank"
        assert not is_true(status.conditions, "DecisionRequired")
        assert decision.start is None, "the decision is on record first"
        after = look(written(told, decision), 501, task_type=HOLD, jobs=(drained(),))
        assert (after.start is not None) is (word == "retry")

    @pytest.mark.parametrize("word", ["retry job-order-1-9", "retry", "maybe job-order-1-1", ""])
    def test_another_word_decides_nothing(self, word: str) -> None:
        told = annotated(evicted(), {names.DECISION_ANNOTATION: word})
        decision = look(told, 500, task_type=HOLD, jobs=(drained(),))
        assert decision.start is None
        assert (decision.status or told.status).attempts[0].decision is None

    def test_a_retry_by_decision_is_not_bound_by_the_budget(self) -> None:
        spent = task_type(retry={"onUnknownOutcome": "Hold", "maxRetries": 0})
        gone = job()
        known = {"task_type": spent, "jobs": (gone,), "gone": frozenset({gone.uid}), "pods": (pod(gone),)}
        held = written(task(), look(task(), 20, **known))
        assert held.status.attempts[0].outcome is Outcome.UNKNOWN
        told = annotated(held, {names.DECISION_ANNOTATION: "retry job-order-1-1"})
        again = written(told, look(told, 21, **known))
        decision = look(again, 22, **known)
        assert decision.start is not None
        assert not decision.start.takes_token

    def test_retry_now_does_not_answer_what_a_person_was_asked(self) -> None:
        told = annotated(evicted(), {names.RETRY_NOW_ANNOTATION: "1"})
        noted = written(told, look(told, 500, task_type=HOLD, jobs=(drained(),)))
        assert noted.status.retry_now == "1"
        decision = look(noted, 501, task_type=HOLD, jobs=(drained(),))
        assert decision.start is None
        assert is_true(noted.status.conditions, "DecisionRequired")

    def test_fail_ends_the_task(self) -> None:
        ended = evicted(task_type(retry={"onDisruption": "Fail"}))
        assert (ended.status.phase, ended.status.reason) == (Phase.FAILED, "Disrupted")

    def test_a_cancelled_task_asks_nobody(self) -> None:
        held = evicted(cancel=True)
        assert held.status.phase is Phase.CANCELLED


class TestSnooze:
    def test_it_costs_no_retry_and_waits_its_time(self) -> None:
        snoozing = task_type(retry={"maxRetries": 0, "snooze": {"delaySeconds": 30, "maxTimes": 1}})
        over = failed(code=75)
        decision = look(task(), 11, task_type=snoozing, jobs=(over,), pods=(pod(over, exit_code=75),))
        status = status_of(decision)
        assert (status.phase, status.reason) == (Phase.PENDING, "Snoozed")
        assert (status.snoozes, status.failures) == (1, None)
        assert status.attempts[0].outcome is Outcome.SNOOZED
        assert decision.wake == at(40)
        again = look(written(task(), decision), 40, task_type=snoozing, jobs=(over,))
        assert again.start is not None
        assert not again.start.takes_token

    def test_one_too_many_is_a_failure(self) -> None:
        snoozing = task_type(retry={"maxRetries": 0, "snooze": {"maxTimes": 1}})
        over = failed(2, code=75)
        before = task(status={"attempt": 1, "snoozes": 1, "run": 1})
        status = status_of(
            look(before, 11, task_type=snoozing, jobs=(over,), pods=(pod(over, exit_code=75),))
        )
        assert (status.phase, status.failures, status.snoozes) == (Phase.FAILED, 1, 1)


class TestRetryNow:
    def test_it_ends_a_back_off(self) -> None:
        over = failed()
        waiting = written(task(), look(task(), 11, jobs=(over,), pods=(pod(over),)))
        assert waiting.status.reason == "BackOff"
        told = annotated(waiting, {names.RETRY_NOW_ANNOTATION: "now"})
        noted = written(told, look(told, 12, jobs=(over,)))
        decision = look(noted, 12, jobs=(over,))
        assert decision.start is not None
        assert not decision.start.takes_token, "a person asked for it"

    def test_it_is_answered_once(self) -> None:
        ended = task(status={"phase": "Failed", "attempt": 2, "failures": 2, "retryNow": "now", "run": 1})
        told = annotated(ended, {names.RETRY_NOW_ANNOTATION: "now"})
        assert look(told, 500).status is None

    @pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
    def test_on_an_ended_task_it_begins_a_run_with_attempts_numbered_on(self, phase: str) -> None:
        ended = task(
            status={
                "phase": phase,
                "attempt": 2,
                "failures": 2,
                "run": 1,
                "conditions": [{"type": "Failed", "status": "True", "reason": "MaxRetriesExceeded"}],
                "attempts": [{"number": 2, "jobName": "order-1-0-2", "outcome": "Failed", "run": 1}],
            },
            deadlines={"totalSeconds": 100},
        )
        told = annotated(ended, {names.RETRY_NOW_ANNOTATION: "now"})
        decision = look(told, 5000, jobs=(failed(2),))
        again = written(told, decision)
        assert (again.status.phase, again.status.run, again.status.failures) == (Phase.PENDING, 2, None)
        assert not is_true(again.status.conditions, "Failed")
        decision = look(again, 5001, jobs=(failed(2),))
        assert decision.start is not None
        assert (decision.start.attempt.number, decision.start.attempt.run) == (3, 2)
        assert decision.start.first
        assert decision.start.total_left == 99, "its total deadline begins anew"

    def test_a_cancelled_task_stays_cancelled(self) -> None:
        ended = task(cancel=True, status={"phase": "Cancelled"})
        told = annotated(ended, {names.RETRY_NOW_ANNOTATION: "now"})
        decision = look(told, 500)
        assert status_of(decision).phase is Phase.CANCELLED
        assert [a.reason for a in decision.actions if isinstance(a, PostEvent)] == ["RetryRefused"]
        assert look(written(told, decision), 501).status is None

    def test_while_an_attempt_runs_it_asks_for_nothing(self) -> None:
        told = annotated(task(), {names.RETRY_NOW_ANNOTATION: "now"})
        noted = written(told, look(told, 5, jobs=(job(),), pods=(alive(job()),)))
        assert noted.status.retry_now == "now"
        ended = look(noted, 11, jobs=(failed(),), pods=(pod(failed(), resource_version="2"),))
        assert status_of(ended).reason == "BackOff"


class TestGates:
    def test_a_wait_for_a_lock_is_said_and_keeps_its_place(self) -> None:
        decision = look(task(lockKey="k"), gate=Gate.LOCK)
        assert status_of(decision).reason == "LockHeld"
        assert decision.start is not None
        assert decision.start.lock_key == "k"
        assert [a for a in decision.actions if isinstance(a, PostEvent)] == []

    def test_an_orphaned_lock_asks_a_person(self) -> None:
        decision = look(task(lockKey="k"), gate=Gate.LOCK, lock_orphaned=True)
        assert status_of(decision).reason == "LockOrphaned"
        assert "kubectl delete lease" in status_of(decision).message
        assert [a.reason for a in decision.actions if isinstance(a, PostEvent)] == ["LockOrphaned"]

    def test_a_retry_waits_for_a_token_and_says_so(self) -> None:
        over = failed()
        waiting = written(task(), look(task(), 11, jobs=(over,), pods=(pod(over),)))
        decision = look(waiting, 100, jobs=(over,), gate=Gate.BUDGET)
        assert decision.start is not None
        assert decision.start.takes_token
        assert status_of(decision).reason == "RetryBudgetExhausted"

    def test_a_first_attempt_takes_no_token(self) -> None:
        decision = look(task())
        assert decision.start is not None
        assert (decision.start.takes_token, decision.start.first) == (False, True)


class TestTypes:
    def test_a_running_attempt_keeps_what_it_started_with(self) -> None:
        known = {"jobs": (job(),), "pods": (alive(job()),)}
        longer = task_type(deadlines={"attemptSeconds": 4000}, lease={"marginSeconds": 500})
        decision = look(task(), 5, task_type=longer, **known)
        lease = status_of(decision).lease
        assert lease is not None
        assert lease.expire_time == at(180 + 30 + 2 + 30)

    def test_an_attempt_goes_on_and_is_recorded_without_its_type(self) -> None:
        running = written(task(), look(task(), 5, jobs=(job(),), pods=(alive(job()),)))
        decision = look(running, 20, task_type=None, jobs=(completed(),), pods=(alive(job()),))
        assert status_of(decision).phase is Phase.SUCCEEDED
        over = failed()
        decision = look(running, 20, task_type=None, jobs=(over,), pods=(pod(over, resource_version="2"),))
        status = status_of(decision)
        assert (status.reason, status.failures) == ("UnknownTaskType", 1)
        back = look(written(running, decision), 300, jobs=(over,))
        assert back.start is not None
