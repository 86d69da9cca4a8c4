"""Slots against a simple model: never above the limit, always the first in order."""

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asyncflow.core.scheduling.priority_queue import Rank, rank
from asyncflow.core.scheduling.slots import Slots
from support.builders import T0

UIDS = st.sampled_from([f"t{n}" for n in range(12)])


class SlotsMachine(RuleBasedStateMachine):
    """Compares `Slots` with sets and a sorted list."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(limit=2)
        self.limit = 2
        self.expected: set[str] = set()
        self.waiting: dict[str, Rank] = {}
        self.holding: set[str] = set()
        self.unused: dict[str, Rank] = {}

    def check(self, woken: list[str]) -> None:
        expected = []
        while self.waiting and not self.expected and len(self.holding) < self.limit:
            first = min(self.waiting, key=lambda uid: self.waiting[uid])
            self.unused[first] = self.waiting.pop(first)
            self.holding.add(first)
            expected.append(first)
        assert woken == expected

    @rule(uid=UIDS, priority=st.integers(-2, 2), age=st.integers(0, 5))
    def offer(self, uid: str, priority: int, age: int) -> None:
        if uid in self.slots.live:
            self.holding.discard(uid)  # its attempt has ended: it asks for the next one
        place = rank(priority, T0 - timedelta(seconds=age), f"n{age}", uid)
        if uid not in self.holding:
            self.waiting[uid] = place
        self.check(self.slots.offer(uid, place))

    @rule(uid=UIDS, made=st.booleans())
    def start(self, uid: str, made: bool) -> None:
        if uid in self.slots.granted:
            self.slots.begin(uid)
            del self.unused[uid]
        if self.slots.holds(uid) and made:
            self.slots.occupy(uid)

    @rule(uid=UIDS)
    def leave(self, uid: str) -> None:
        self.waiting.pop(uid, None)
        self.unused.pop(uid, None)
        self.holding.discard(uid)
        self.check(self.slots.leave(uid))

    @rule(limit=st.integers(1, 6))
    def change_limit(self, limit: int) -> None:
        self.limit = limit
        for uid in sorted(self.unused, key=self.unused.__getitem__, reverse=True):
            if len(self.holding) > limit:
                self.waiting[uid] = self.unused.pop(uid)
                self.holding.discard(uid)
        self.check(self.slots.set_limit(limit))

    @rule(uids=st.sets(UIDS, max_size=3))
    def expect(self, uids: set[str]) -> None:
        self.expected |= uids
        self.slots.expect(uids)

    @rule(uid=UIDS)
    def settle(self, uid: str) -> None:
        if uid in self.expected:
            self.expected.discard(uid)
            self.check(self.slots.mark_evaluated(uid))
        else:
            assert self.slots.mark_evaluated(uid) == []

    @invariant()
    def agrees(self) -> None:
        held = {*self.slots.granted, *self.slots.starting}
        assert self.slots.live | held == self.holding
        assert self.slots.granted == self.unused
        assert len(self.holding) == self.slots.taken
        assert self.slots.waiting == len(self.waiting)


TestSlots = SlotsMachine.TestCase
TestSlots.settings = settings(stateful_step_count=40)


def test_attempts_found_at_the_start_count_even_beyond_the_limit() -> None:
    slots = Slots(limit=1)
    slots.occupy("a")
    slots.occupy("b")
    assert slots.offer("c", rank(0, T0, "c", "c")) == []
    assert slots.leave("a") == []
    assert slots.leave("b") == ["c"]


@pytest.mark.parametrize(
    ("first", "second"),
    [((5, 9, "b"), (1, 0, "a")), ((1, 0, "b"), (1, 5, "a")), ((1, 0, "a"), (1, 0, "b"))],
)
def test_priority_goes_before_age_and_age_before_the_name(
    first: tuple[int, int, str], second: tuple[int, int, str]
) -> None:
    slots = Slots(limit=1)
    slots.expect(["first", "second"])
    for uid, (priority, seconds, name) in (("second", second), ("first", first)):
        slots.offer(uid, rank(priority, T0 + timedelta(seconds=seconds), name, uid))
    assert slots.mark_evaluated("second") == []
    assert slots.mark_evaluated("first") == ["first"]
