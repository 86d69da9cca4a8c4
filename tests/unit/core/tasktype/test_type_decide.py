"""The decision about a TaskType: pure, repeatable, and at rest once it was carried out."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from asyncflow.api.asynctask import Phase
from asyncflow.api.meta import find_condition
from asyncflow.api.tasktype import READY
from asyncflow.core.tasktype.census import Census, Entry
from asyncflow.core.tasktype.decide import DRY_RUN_RETRY_AFTER, decide_type
from asyncflow.core.tasktype.retention import cutoffs
from asyncflow.core.tasktype.snapshot import Demand, DryRunResult, Due, FinishedTask, TypeSnapshot
from support.builders import T0, at, task_type

entries = st.lists(st.tuples(st.sampled_from(Phase), st.integers(1, 4), st.integers(0, 50)), max_size=12)


def census_of(found: list[tuple[Phase, int, int]]) -> Census:
    census = Census()
    for number, (phase, shard, second) in enumerate(found):
        ending = (at(second), f"t{number}") if phase.terminal else None
        census.put(f"t{number}", Entry(phase, shard, ending))
    return census


@given(
    found=entries,
    waiting=st.integers(0, 3),
    tokens=st.integers(0, 9),
    due=st.frozensets(st.sampled_from(Due)),
    result=st.sampled_from([None, DryRunResult(), DryRunResult("JobRejected", "spec: Invalid value")]),
    ready=st.sampled_from([None, True]),
)
def test_a_decision_is_repeatable_and_at_rest_once_its_status_is_written(
    found: list[tuple[Phase, int, int]],
    waiting: int,
    tokens: int,
    due: frozenset[Due],
    result: DryRunResult | None,
    ready: bool | None,
) -> None:
    of = task_type(ready=ready, maxTasksPerShard=3, errorPolicy={"maxConsecutive": 2})
    demand = Demand(slots=waiting, slots_since=T0 if waiting else None, tokens=tokens)
    snapshot = TypeSnapshot(of, census_of(found).tally(), demand, due, T0, result)
    first = decide_type(snapshot, at(60))
    assert decide_type(snapshot, at(60)) == first
    if first.status is None:
        return
    after = replace(
        snapshot,
        task_type=of.model_copy(update={"status": first.status}),
        demand=replace(demand, tokens=max(0, tokens - first.tokens)),
        due=due - {Due.SPLIT},  # a full shard is split again only when it is full again
        dry_run_result=None,
        last_dry_run=at(60),
    )
    second = decide_type(after, at(60))
    assert second.status is None
    assert not second.needs_dry_run
    assert second.events == ()


def test_a_rejected_generation_is_tried_again_after_a_pause_and_a_new_one_at_once() -> None:
    snapshot = TypeSnapshot(task_type(ready=None), Census().tally())
    assert decide_type(snapshot, T0).needs_dry_run
    rejected = replace(snapshot, dry_run_result=DryRunResult("JobRejected", "no"), last_dry_run=T0)
    decision = decide_type(rejected, T0)
    assert decision.status is not None
    ready = find_condition(decision.status.conditions, READY)
    assert ready is not None
    assert (ready.status, ready.reason, ready.message) == ("False", "JobRejected", "no")
    assert decision.wake == T0 + DRY_RUN_RETRY_AFTER
    of = snapshot.task_type.model_copy(update={"status": decision.status})
    later = replace(rejected, task_type=of, dry_run_result=None)
    assert not decide_type(later, at(29)).needs_dry_run
    assert decide_type(later, at(30)).needs_dry_run
    changed = of.model_copy(update={"metadata": of.metadata.model_copy(update={"generation": 2})})
    assert decide_type(replace(later, task_type=changed), at(1)).needs_dry_run


def test_nothing_is_decided_about_a_type_that_is_being_deleted() -> None:
    of = task_type(ready=None)
    of = of.model_copy(update={"metadata": of.metadata.model_copy(update={"deletion_timestamp": T0})})
    decision = decide_type(TypeSnapshot(of, Census().tally(), due=frozenset(Due)), T0)
    assert (decision.status, decision.needs_dry_run, decision.delete) == (None, False, ())


def test_tasks_are_deleted_in_the_order_of_their_ends_up_to_a_limit() -> None:
    def task(name: str, second: float) -> FinishedTask:
        return FinishedTask(name, name, (at(second), name), "1")

    of = task_type(retention={"succeededSeconds": 10, "failedSeconds": 20})
    assert cutoffs(of.spec.retention, at(60))[Phase.CANCELLED] == at(60) - timedelta(seconds=20)
    finished = {Phase.SUCCEEDED: (task("b", 2), task("d", 4)), Phase.FAILED: (task("a", 1), task("c", 3))}
    snapshot = TypeSnapshot(of, Census().tally(), due=frozenset({Due.ROLL}), finished=finished)
    decision = decide_type(snapshot, at(60), deletions=3)
    assert [task.uid for task in decision.delete] == ["a", "b", "c"]
