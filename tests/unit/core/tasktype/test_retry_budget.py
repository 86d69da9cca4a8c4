"""The retry budget of a type and the tokens that are withdrawn from it."""

from datetime import datetime, timedelta

import pytest

from asyncflow.api.limits import RetryBudget
from asyncflow.api.meta import is_true
from asyncflow.api.tasktype import RetryBudgetStatus, TaskType, TaskTypeStatus
from asyncflow.core.scheduling.priority_queue import rank
from asyncflow.core.scheduling.retry_tokens import RetryTokens
from asyncflow.core.tasktype.retry_budget import (
    MIN_WITHDRAWAL,
    Withdrawal,
    available,
    capacity,
    seconds_to_next,
    withdraw,
)
from support.builders import T0, at, task_type


def withdrawn(of: TaskType, status: TaskTypeStatus, tokens: RetryTokens, now: datetime) -> Withdrawal:
    waiting, first_attempts = len(tokens.waiting), tokens.first_attempts
    return withdraw(of, status, waiting=waiting, first_attempts=first_attempts, now=now)


BUDGET = RetryBudget(percent=20, minimum_per_minute=10)


class TestBudget:
    def test_a_new_bucket_holds_a_minutes_minimum(self) -> None:
        assert available(BUDGET, None, 0, T0) == 10

    def test_first_attempts_and_time_pay_in_up_to_its_capacity(self) -> None:
        empty = RetryBudgetStatus(tokens=0, update_time=T0)
        assert available(BUDGET, empty, 5, T0) == pytest.approx(1)
        assert available(BUDGET, empty, 0, at(30)) == pytest.approx(5)
        assert available(BUDGET, empty, 10_000, at(9999)) == capacity(BUDGET) == 30

    def test_a_clock_that_goes_back_takes_nothing(self) -> None:
        assert available(BUDGET, RetryBudgetStatus(tokens=3, update_time=at(60)), 0, T0) == 3

    def test_it_says_when_the_next_token_is_there(self) -> None:
        assert seconds_to_next(BUDGET, 0.5) == pytest.approx(3)
        assert seconds_to_next(RetryBudget(minimum_per_minute=0), 0) is None

    def test_what_is_taken_out_is_written_before_it_is_granted(self) -> None:
        tokens = RetryTokens()
        assert not tokens.request("a", rank(0, T0, "a", "a"))
        taken = withdrawn(task_type(retry={"budget": BUDGET.to_api()}), TaskTypeStatus(), tokens, T0)
        assert taken.taken == MIN_WITHDRAWAL
        assert taken.status.retry_budget == RetryBudgetStatus(tokens=10 - MIN_WITHDRAWAL, update_time=T0)
        assert tokens.granted == set()
        assert tokens.add(taken.taken) == ["a"]

    def test_a_restart_grants_nothing(self) -> None:
        """Whoever starts anew finds what is written: less than was there before by all that was taken out."""
        made = task_type(retry={"budget": BUDGET.to_api()})
        for restart in range(10):
            tokens = RetryTokens()
            tokens.request("a", rank(0, T0, "a", "a"))
            taken = withdrawn(made, made.status, tokens, at(restart * 0.1))
            made = made.model_copy(update={"status": taken.status})
            assert taken.taken == (MIN_WITHDRAWAL if restart < 2 else 0)

    def test_who_gets_none_is_told_of_with_a_condition_and_waits(self) -> None:
        made = task_type(retry={"budget": {"percent": 0, "minimumPerMinute": 2}})
        tokens = RetryTokens()
        for uid in "abc":
            tokens.request(uid, rank(0, T0, uid, uid))
        taken = withdrawn(made, made.status, tokens, T0)
        assert taken.taken == 2
        assert is_true(taken.status.conditions, "RetryBudgetExhausted")
        assert taken.next_token == at(30)
        assert tokens.add(2) == ["a", "b"]
        made = made.model_copy(update={"status": taken.status})
        later = withdrawn(made, made.status, tokens, T0 + timedelta(seconds=30))
        assert later.taken == 1
        assert not is_true(later.status.conditions, "RetryBudgetExhausted")

    def test_a_token_that_was_not_used_goes_to_the_next(self) -> None:
        tokens = RetryTokens()
        tokens.request("a", rank(1, T0, "a", "a"))
        tokens.request("b", rank(0, T0, "b", "b"))
        tokens.add(1)
        assert tokens.granted == {"a"}
        assert tokens.leave("a") == ["b"]
