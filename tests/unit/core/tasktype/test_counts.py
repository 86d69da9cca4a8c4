"""What a type's status says of its tasks: counts, shards, errors, and what retention takes away."""

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from asyncflow.api.asynctask import Phase
from asyncflow.api.meta import format_time
from asyncflow.api.tasktype import Shards
from asyncflow.core.tasktype.census import Census, Entry
from asyncflow.core.tasktype.shards import roll, split
from asyncflow.core.tasktype.snapshot import Due
from asyncflow.kube.client import TASKS, TYPES, ApiError
from model.explorer import type_body
from model.operators import SimulatedOperator
from model.world import World
from support.builders import at

KEEP_SECONDS = 3600


def ended(phase: Phase, second: int, name: str = "", shard: int = 1) -> Entry:
    return Entry(phase, shard, (at(second), name))


class TestCensus:
    @given(
        endings=st.lists(
            st.tuples(st.sampled_from([Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED]), st.integers(0, 5)),
            max_size=12,
        ),
        random=st.randoms(use_true_random=False),
    )
    def test_failures_in_a_row_do_not_depend_on_the_order_of_arrival(self, endings: Any, random: Any) -> None:
        tasks = [(f"t{n}", phase, second) for n, (phase, second) in enumerate(endings)]
        in_a_row = 0
        for _, phase, _ in sorted(tasks, key=lambda t: (t[2], t[0])):
            in_a_row = {Phase.FAILED: in_a_row + 1, Phase.SUCCEEDED: 0}.get(phase, in_a_row)
        census = Census()
        for name, phase, second in random.sample(tasks, len(tasks)):
            census.put(name, Entry(Phase.RUNNING, None, None))
            census.put(name, ended(phase, second, name))
        assert census.failures().consecutive == in_a_row

    def test_a_task_counts_once_whatever_becomes_of_it(self) -> None:
        census = Census()
        for entry in (
            Entry(Phase.PENDING, None, None),
            Entry(Phase.RUNNING, 1, None),
            ended(Phase.FAILED, 5),
            Entry(Phase.PENDING, 2, None),  # begun anew
        ):
            census.put("a", entry)
        tally = census.tally()
        assert [tally.phases[phase] for phase in Phase] == [1, 0, 0, 0, 0]
        assert (tally.members, tally.unfinished_shards) == ({2: 1}, frozenset({2}))
        assert census.failures().consecutive == 0
        assert census.ended_before(Phase.FAILED, at(99), 10) == []
        census.drop("a")
        tally = census.tally()
        assert (tally.phases[Phase.PENDING], tally.members, census.unfinished()) == (0, {}, [])

    def test_the_first_to_end_go_first(self) -> None:
        census = Census()
        for name, second in (("b", 2), ("a", 1), ("c", 3), ("d", 9)):
            census.put(name, ended(Phase.SUCCEEDED, second, name))
        for _ in range(2):
            assert self.uids(census, 2) == ["a", "b"]
        assert self.uids(census, 9) == ["a", "b", "c"]

    @staticmethod
    def uids(census: Census, most: int) -> list[str]:
        return [uid for _, uid in census.ended_before(Phase.SUCCEEDED, at(5), most)]


class TestShards:
    @pytest.fixture
    def census(self) -> Census:
        made = Census()
        for number, shard in enumerate((1, 1, 2, 2, 3)):
            made.put(f"t{number}", Entry(Phase.RUNNING, shard, None))
        return made

    def test_the_next_is_opened_when_the_last_is_full(self, census: Census) -> None:
        assert split(Shards(begin=1, end=2), census.tally(), 2) == Shards(begin=1, end=3)
        assert split(Shards(begin=1, end=3), census.tally(), 2) == Shards(begin=1, end=3)

    def test_a_straggler_keeps_its_own_shard_open_and_no_other(self, census: Census) -> None:
        shards = Shards(begin=1, end=3)
        census.put("t2", ended(Phase.SUCCEEDED, 1, shard=2))
        census.put("t3", ended(Phase.FAILED, 1, shard=2))
        census.put("t0", ended(Phase.CANCELLED, 1))
        assert roll(shards, census.tally()) == shards
        census.put("t1", ended(Phase.SUCCEEDED, 1))
        assert roll(shards, census.tally()) == Shards(begin=3, end=3)

    def test_the_last_stays_open(self) -> None:
        assert roll(Shards(begin=4, end=4), Census().tally()) == Shards(begin=4, end=4)

    def test_what_is_about_to_be_recorded_belongs_to_its_shard(self, census: Census) -> None:
        for number in (0, 1):
            census.put(f"t{number}", ended(Phase.SUCCEEDED, 1))
        census.put("late", Entry(Phase.PENDING, None, None))
        census.assign("late", 1)  # decided while shard 1 was the last; its write is on its way
        census.put("late", Entry(Phase.PENDING, None, None))
        assert roll(Shards(begin=1, end=2), census.tally()) == Shards(begin=1, end=2)
        census.put("late", Entry(Phase.PENDING, 2, None))
        assert roll(Shards(begin=1, end=2), census.tally()).begin == 2


class RetentionMachine(RuleBasedStateMachine):
    """Tasks end and are deleted in time; the operator dies. The counts are of those that exist."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.operator = SimulatedOperator(self.world, "A")
        self.made = 0

    @initialize()
    def begin(self) -> None:
        retention = {"succeededSeconds": KEEP_SECONDS, "failedSeconds": 2 * KEEP_SECONDS}
        spec = type_body(retention=retention, suspend=True, maxTasksPerShard=3)
        self.world.create(TYPES, spec)
        self.operator.take_over()

    @rule(phase=st.sampled_from(["Succeeded", "Failed", "Cancelled"]), ago=st.integers(0, 3 * KEEP_SECONDS))
    def a_task_has_ended(self, phase: str, ago: int) -> None:
        self.made += 1
        name = f"t{self.made}"
        self.world.create(TASKS, {"metadata": {"name": name}, "spec": {"taskTypeName": "poll"}})
        ending = format_time(self.world.now - timedelta(seconds=ago))
        self.world.patch(TASKS, name, status={"phase": phase, "completionTime": ending, "shard": 1})

    @precondition(lambda self: self.world.objects[TASKS])
    @rule(data=st.data())
    def somebody_asks_for_another_run(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.objects[TASKS])))
        annotations = {"asyncflow.dev/retry-now": str(self.world.api.version)}
        self.world.patch(TASKS, name, metadata={"annotations": annotations})

    @rule(seconds=st.integers(1, KEEP_SECONDS))
    def time_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    @rule(begins=st.lists(st.booleans(), max_size=8), choice=st.integers(0, 3), look=st.booleans())
    def the_operator_works_a_little(self, begins: list[bool], choice: int, look: bool) -> None:
        """Several requests may be in flight, and be answered in any order."""
        if look:
            self.request(Due.ROLL)
        self.operator.hear()
        for begin in begins:
            (self.operator.begin if begin else self.operator.answer)(choice)

    @rule(lands=st.booleans())
    def the_operator_dies(self, lands: bool) -> None:
        for flying in self.operator.die():
            if lands:
                with suppress(ApiError):  # it comes too late
                    self.world.api.handle(flying.request)
        self.operator = SimulatedOperator(self.world, "A")
        self.operator.take_over()

    @rule()
    def all_comes_to_rest(self) -> None:
        for _ in range(3):  # one round counts, one removes, one sees them gone
            self.request(Due.ROLL)
            while self.step():
                pass
        tasks = self.world.objects[TASKS].values()
        counts = self.world.objects[TYPES]["poll"]["status"]["counts"]
        there = Counter(body["status"].get("phase", "Pending").lower() for body in tasks)
        assert {phase: number for phase, number in counts.items() if number} == dict(there)
        for body in tasks:
            asked = body["metadata"].get("annotations", {}).get("asyncflow.dev/retry-now")
            assert body["status"].get("retryNow") == asked, "who asks for another run is heard"
        for body in tasks:
            if body["status"]["phase"] in ("Succeeded", "Failed", "Cancelled"):
                keep = KEEP_SECONDS * (1 if body["status"]["phase"] == "Succeeded" else 2)
                due = format_time(self.world.now - timedelta(seconds=keep))
                assert body["status"]["completionTime"] >= due, "it should have been removed"

    def request(self, due: Due) -> None:
        work: Any = self.operator.work
        work.request(("shop", "poll"), due)

    def step(self) -> bool:
        self.operator.hear()
        return self.operator.answer(0) or self.operator.begin(0)

    def teardown(self) -> None:
        self.all_comes_to_rest()


RetentionMachine.TestCase.settings = settings(stateful_step_count=30)
TestRetention = RetentionMachine.TestCase


def test_a_task_stays_as_long_as_it_has_jobs() -> None:
    """They are kept for ten minutes: until then a create that was held up could still make an attempt."""
    world = World()
    operator = SimulatedOperator(world, "A")
    world.create(TYPES, type_body(retention={"succeededSeconds": 0}))
    operator.take_over()

    def settle() -> None:
        work: Any = operator.work
        for _ in range(3):
            work.request(("shop", "poll"), Due.ROLL)
            going = True
            while going:
                operator.hear()
                going = operator.answer(0) or operator.begin(0)

    world.create(TASKS, {"metadata": {"name": "a"}, "spec": {"taskTypeName": "poll"}})
    settle()
    world.end_job("a-0-1", "Complete", "", "", succeeded=1, completionTime=format_time(world.now))
    world.now += timedelta(minutes=9)
    settle()
    assert list(world.objects[TASKS]) == ["a"]
    world.now += timedelta(minutes=2)
    settle()
    world.garbage_collector("a-0-1")
    settle()
    assert list(world.objects[TASKS]) == []
    assert world.objects[TYPES]["poll"]["status"]["counts"]["succeeded"] == 0
