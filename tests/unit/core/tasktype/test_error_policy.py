"""The error policy, and how a person resumes a type; and what a change of a type costs its tasks."""

import sys
from typing import Any

import pytest

from asyncflow.api.asynctask import Phase
from asyncflow.api.meta import find_condition, format_time, is_true
from asyncflow.api.tasktype import SUSPENDED, TaskType
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.core.attempt.settings import effective_settings
from asyncflow.core.lifecycle.history import EVIDENCE_AFTER
from asyncflow.core.tasktype import error_policy
from asyncflow.core.tasktype.census import Census, Entry
from asyncflow.core.tasktype.decide import decide_type
from asyncflow.core.tasktype.snapshot import DryRunResult, Due, TypeSnapshot
from asyncflow.kube.client import TASKS, TYPES
from model.shop import Shop
from support.builders import at, task, task_body, task_type

KEY = ("shop", "poll")


def census_of(*phases: Phase) -> Census:
    """Return a census of tasks that have ended one after the other."""
    census = Census()
    for number, phase in enumerate(phases):
        census.put(f"t{number}", Entry(phase, 1, (at(number), f"t{number}")))
    return census


def asked(of: TaskType, text: str) -> TaskType:
    """Return a type that a person wants resumed."""
    annotations = {"asyncflow.dev/resume": text}
    return of.model_copy(update={"metadata": of.metadata.model_copy(update={"annotations": annotations})})


def written(of: TaskType, census: Census, second: float) -> TaskType:
    """Return the type after the status that is due was written, and the census after it was read again."""
    decision = decide_type(TypeSnapshot(of, census.tally(), dry_run_result=DryRunResult()), at(second))
    if decision.suspension:
        census.suspension = decision.suspension
    after = of.model_copy(update={"status": decision.status or of.status})
    error_policy.restore_from_status(after, census)
    return after


F, S, C = Phase.FAILED, Phase.SUCCEEDED, Phase.CANCELLED


class TestErrorPolicy:
    @pytest.mark.parametrize(
        ("policy", "phases", "suspended"),
        [
            ({}, [F] * 9, False),
            ({"maxConsecutive": 3}, [F, F, S, F, F], False),
            ({"maxConsecutive": 3}, [F, F, S, F, C, F, F], True),
            ({"maxTotal": 3}, [F, S, F, S, S], False),
            ({"maxTotal": 3}, [F, S, F, S, F, S], True),
        ],
    )
    def test_past_either_number_the_type_suspends_itself(
        self, policy: dict[str, int], phases: list[Phase], suspended: bool
    ) -> None:
        made, census = task_type(errorPolicy=policy), census_of(*phases)
        assert bool(error_policy.suspended_itself(made, census.failures())) is suspended
        assert is_true(written(made, census, 99).status.conditions, SUSPENDED) is suspended

    def test_it_stays_so_whatever_ends_well_until_a_person_resumes_it(self) -> None:
        census = census_of(F, F)
        made = written(task_type(errorPolicy={"maxConsecutive": 2, "maxTotal": 5}), census, 10)
        census.put("late", Entry(S, 1, (at(11), "late")))
        made = written(made, census, 12)
        assert error_policy.suspended_itself(made, census.failures())
        made = written(asked(made, "mended"), census, 20)
        assert not is_true(made.status.conditions, SUSPENDED)
        assert census.failures().total == 0
        assert error_policy.suspended_itself(written(made, census, 21), census.failures()) == "", (
            "one word, one resumption"
        )

    def test_it_is_so_from_the_first_sight_on_even_if_a_task_succeeds_before_it_is_on_record(self) -> None:
        census = census_of(F, F)
        made = task_type(errorPolicy={"maxConsecutive": 2})
        decision = decide_type(TypeSnapshot(made, census.tally(), dry_run_result=DryRunResult()), at(10))
        census.suspension = decision.suspension
        census.put("late", Entry(S, 1, (at(11), "late")))
        made = written(made, census, 12)
        assert made.status.errors.suspended
        assert error_policy.suspended_itself(made, Census().failures()), "another operator reads it"

    def test_what_retention_deletes_is_not_counted(self) -> None:
        census = census_of(F, S, F, F)
        census.drop("t2")
        assert (census.failures().consecutive, census.failures().total) == (1, 2)

    def test_a_word_that_was_answered_does_not_count_again(self) -> None:
        census = census_of(F, F)
        made = written(asked(task_type(errorPolicy={"maxConsecutive": 2}), "mended"), census, 10)
        assert not is_true(made.status.conditions, SUSPENDED)
        for number in (2, 3):
            census.put(f"t{number}", Entry(F, 1, (at(20 + number), f"t{number}")))
        made = written(made, census, 30)
        assert is_true(made.status.conditions, SUSPENDED)
        assert is_true(written(made, census, 31).status.conditions, SUSPENDED)

    def test_another_operator_comes_to_the_same_count(self) -> None:
        """Also if the last task that succeeded was removed since."""
        census = census_of(F, F, S, F)
        made = task_type(errorPolicy={"maxConsecutive": 3})
        made = made.model_copy(
            update={"status": error_policy.with_failure_counts(made.status, census.failures())}
        )
        other = Census()
        for uid in ("t0", "t1", "t3"):
            entry = census.entry(uid)
            assert entry is not None
            other.put(uid, entry)
        error_policy.restore_from_status(made, other)
        assert other.failures().consecutive == 1

    def test_a_persons_suspension_goes_before_its_own_and_lifts_with_it(self) -> None:
        made = written(task_type(suspend=True), Census(), 1)
        found = find_condition(made.status.conditions, SUSPENDED)
        assert found is not None
        assert (found.status, found.reason) == ("True", "SuspendedByUser")
        lifted = made.model_copy(update={"spec": task_type().spec})
        assert not is_true(written(lifted, Census(), 2).status.conditions, SUSPENDED)


def test_not_one_attempt_is_started_after_the_failure_that_was_one_too_many() -> None:
    retry = {"nonRetriableExitCodes": [9]}
    shop = Shop(maxConcurrent=1, errorPolicy={"maxConsecutive": 2}, retry=retry)
    for name in "abcd":
        shop.create(name)
        shop.settle()
    shop.fail("a")
    shop.settle()
    assert shop.jobs == {"a-0-1", "b-0-1"}
    shop.fail("b")
    shop.settle()
    assert shop.jobs == {"a-0-1", "b-0-1"}
    assert shop.world.objects[TASKS]["c"]["status"]["reason"] == "TaskTypeSuspended"


def test_a_change_of_the_limit_wakes_only_those_that_it_lets_start() -> None:
    shop = Shop(maxConcurrent=1)
    for number in range(50):
        shop.create(f"t{number:02}")
    shop.settle()
    shop.change_type(maxConcurrent=3)
    assert shop.settle() < 10
    assert len(shop.jobs) == 3


def test_another_priority_of_the_type_moves_those_who_wait() -> None:
    shop = Shop(maxConcurrent=1)
    for name, spec in (("a", {}), ("own", {"priority": 1}), ("types", {})):
        shop.create(name, **spec)
        shop.settle()
    shop.change_type(priority=5)
    shop.settle()
    ended = format_time(shop.world.now - EVIDENCE_AFTER)
    shop.world.end_job("a-0-1", "Complete", "CompletionsReached", "", completionTime=ended)
    shop.settle()
    assert shop.jobs == {"a-0-1", "types-0-1"}


def test_slots_that_were_not_used_are_taken_back_when_the_limit_is_lowered() -> None:
    shop = Shop(maxConcurrent=1)
    for number in range(30):
        shop.create(f"t{number:02}")
    shop.settle()
    for limit in (20, 3):
        shop.change_type(maxConcurrent=limit)
        while shop.operator.deliver():
            pass
    shop.settle()
    assert shop.jobs == {"t00-0-1", "t01-0-1", "t02-0-1"}


def calls_of_a_tick(state: ClusterState, shop: Shop) -> int:
    """Count the function calls of a look at a type, by all governors."""
    calls = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    work: Any = shop.operator.work
    for due in Due:
        work.request(KEY, due)
    sys.setprofile(count)
    try:
        shop.operator.govern()
        shop.settle()
    finally:
        sys.setprofile(None)
    assert state is shop.operator.operator.state
    return calls


def test_a_governors_tick_costs_the_same_with_a_hundred_thousand_finished_tasks() -> None:
    shop = Shop(maxTasksPerShard=5000)
    state = shop.operator.operator.state
    calls_of_a_tick(state, shop)
    before = calls_of_a_tick(state, shop)
    census = state.census(KEY)
    for number in range(100_000):
        census.put(f"t{number}", Entry(S, number // 5000, (at(number // 100), f"t{number}")))
    shop.world.patch(TYPES, "poll", status={"shards": {"begin": 20, "end": 20}})
    shop.settle()
    calls_of_a_tick(state, shop)  # it writes the counts
    assert calls_of_a_tick(state, shop) <= 1.2 * before
    assert shop.world.objects[TYPES]["poll"]["status"]["counts"]["succeeded"] == 100_000


def test_settings_of_a_type_that_are_no_rule_of_a_task_do_not_change_its_rules() -> None:
    """What `matters_to_tasks` leaves out must not be asked for where a task is decided."""
    other = task_type(
        maxConcurrent=77,
        maxTasksPerShard=77,
        errorPolicy={"maxTotal": 77},
        retention={"succeededSeconds": 77, "failedSeconds": 77},
    )
    assert effective_settings(task(), task_type()) == effective_settings(task(), other)


def test_failures_that_are_listed_before_a_success_between_them_suspend_nothing() -> None:
    """Lists come in the order of names, not of endings."""
    ignore: Any = lambda *_: None  # noqa: E731
    state = ClusterState(ignore, ignore, ignore)
    policy = {"maxConsecutive": 2}
    type_of_all = task_type(errorPolicy=policy).model_dump(by_alias=True, mode="json", exclude_none=True)
    state.put_type(type_of_all)
    for name, phase, second in (("a", "Failed", 1), ("b", "Failed", 3), ("c", "Succeeded", 2)):
        body = task_body(name)
        body["status"] = {"phase": phase, "completionTime": format_time(at(second))}
        state.put_task(body)
    seen = state.snapshot("uid-a")
    assert seen is not None
    assert seen.suspended_itself == ""
