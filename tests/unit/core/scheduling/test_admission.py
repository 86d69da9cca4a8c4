"""Who may start: slots, keys and tokens together, against what they are there for."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncflow.core.scheduling.admission import Admission, Claim, Gate
from asyncflow.core.scheduling.priority_queue import rank
from support.builders import T0

TYPES = (("shop", "poll"), ("shop", "charge"))
KEYS = (("shop", "lock-a"), ("shop", "lock-b"))
UIDS = [f"t{n}" for n in range(8)]


class AdmissionMachine(RuleBasedStateMachine):
    """Tasks come, start, end and go; each has its type and key for good."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission()
        for type_key in TYPES:
            self.admission.set_limit(type_key, 2)
        self.offered: dict[str, Claim] = {}
        self.live: set[str] = set()
        self.leases: dict[tuple[str, str], str] = {}
        self.tokens_out = 0
        self.tokens_used = 0

    def claim(self, uid: str, priority: int, *, takes_token: bool) -> Claim:
        number = UIDS.index(uid)
        lock = (*KEYS, None)[number % 3]
        return Claim(TYPES[number % 2], rank(priority, T0, uid, uid), takes_token, lock)

    @rule(uid=st.sampled_from(UIDS), priority=st.integers(0, 2), takes_token=st.booleans())
    def offer(self, uid: str, priority: int, takes_token: bool) -> None:
        if uid in self.live:
            return
        claim = self.claim(uid, priority, takes_token=takes_token)
        if self.admission.holds_slot(uid):
            claim = self.offered[uid]
        self.offered[uid] = claim
        self.admission.offer(uid, claim)

    @rule(uid=st.sampled_from(UIDS))
    def start(self, uid: str) -> None:
        """Use a granted slot: the Lease first, then the Job."""
        if not self.admission.holds_slot(uid):
            return
        claim = self.offered.pop(uid)
        if claim.lock is not None:
            assert self.leases.get(claim.lock, uid) == uid, "let through to a key that another one holds"
            self.leases[claim.lock] = uid
            self.admission.set_lease_holder(claim.lock, uid)
        self.tokens_used += claim.takes_token
        self.admission.occupy(uid, claim.type_key, claim.lock)
        self.live.add(uid)

    @rule(uid=st.sampled_from(UIDS))
    def end(self, uid: str) -> None:
        if uid not in self.live:
            return
        claim = self.claim(uid, 0, takes_token=False)
        self.live.discard(uid)
        self.admission.leave(uid, claim.type_key, claim.lock)
        if claim.lock is not None:
            del self.leases[claim.lock]
            self.admission.set_lease_holder(claim.lock, None)

    @rule(uid=st.sampled_from(UIDS))
    def withdraw(self, uid: str) -> None:
        if uid in self.offered:
            del self.offered[uid]
            self.admission.leave(uid)

    @rule(type_key=st.sampled_from(TYPES), tokens=st.integers(0, 2))
    def take_out(self, type_key: tuple[str, str], tokens: int) -> None:
        self.tokens_out += tokens
        self.admission.add_tokens(type_key, tokens)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def lease_is_deleted_by_somebody(self, data: st.DataObject) -> None:
        lock = data.draw(st.sampled_from(sorted(self.leases)))
        self.admission.set_lease_holder(lock, None)
        self.admission.set_lease_holder(lock, self.leases[lock])

    @invariant()
    def never_more_than_the_limit(self) -> None:
        for type_key in TYPES:
            slots = self.admission.slots(type_key)
            assert slots.taken <= 2

    @invariant()
    def never_two_of_a_key(self) -> None:
        for lock in KEYS:
            mine = [uid for uid in UIDS if self.claim(uid, 0, takes_token=False).lock == lock]
            assert sum(uid in self.live or self.admission.holds_slot(uid) for uid in mine) <= 1

    @invariant()
    def no_retry_without_a_token(self) -> None:
        holding = sum(c.takes_token for uid, c in self.offered.items() if self.admission.holds_slot(uid))
        assert self.tokens_used + holding <= self.tokens_out

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        for uid, claim in self.offered.items():
            slots = self.admission.slots(claim.type_key)
            if self.admission.holds_slot(uid) or self.admission.gate(uid) is not None:
                continue
            assert slots.taken == 2, f"{uid} waits for a slot, and there is one"

    @invariant()
    def a_free_key_is_waited_for_by_all_but_one(self) -> None:
        for lock in KEYS:
            waiting = [u for u, c in self.offered.items() if c.lock == lock]
            passed = [u for u in waiting if self.admission.gate(u) is None]
            at_the_lock = [u for u in waiting if self.admission.gate(u) is Gate.LOCK]
            if lock in self.leases:
                assert not [u for u in passed if u != self.leases[lock]]
            elif at_the_lock:
                assert len(passed) == 1


AdmissionMachine.TestCase.settings = settings(stateful_step_count=40)
TestAdmission = AdmissionMachine.TestCase


def claim_of(uid: str, priority: int = 0) -> Claim:
    return Claim(TYPES[0], rank(priority, T0, uid, uid), lock=KEYS[0])


class TestKeys:
    @pytest.fixture
    def admission(self) -> Admission:
        made = Admission()
        made.set_limit(TYPES[0], 5)
        return made

    def test_they_go_by_priority_then_by_time(self, admission: Admission) -> None:
        admission.occupy("first", TYPES[0], KEYS[0])
        for uid, priority in (("b", 0), ("a", 0), ("c", 1)):
            admission.offer(uid, claim_of(uid, priority))
        assert [admission.gate(uid) for uid in "abc"] == [Gate.LOCK] * 3
        order = []
        last = "first"
        for _ in range(3):
            admission.leave(last, TYPES[0], KEYS[0])
            (last,) = [uid for uid in "abc" if admission.holds_slot(uid)]
            order.append(last)
            admission.occupy(last, TYPES[0], KEYS[0])
        assert order == ["c", "a", "b"]

    def test_a_holder_without_a_job_is_continued_and_not_overtaken(self, admission: Admission) -> None:
        admission.set_lease_holder(KEYS[0], "late")
        admission.offer("urgent", claim_of("urgent", priority=9))
        assert admission.gate("urgent") is Gate.LOCK
        admission.offer("late", claim_of("late"))
        assert admission.holds_slot("late")

    def test_who_waits_for_a_key_holds_no_slot(self, admission: Admission) -> None:
        admission.set_limit(TYPES[0], 2)
        admission.occupy("first", TYPES[0], KEYS[0])
        admission.offer("second", claim_of("second"))
        admission.offer("free", Claim(TYPES[0], rank(-5, T0, "free", "free")))
        assert admission.holds_slot("free")

    def test_a_task_that_is_no_more_leaves_its_key_to_the_next(self, admission: Admission) -> None:
        admission.occupy("gone", TYPES[0], KEYS[0])
        admission.offer("next", claim_of("next"))
        assert "next" in admission.forget("gone")
        assert admission.holds_slot("next")

    def test_a_token_that_comes_back_from_who_was_let_through_goes_to_the_next_of_its_key(
        self, admission: Admission
    ) -> None:
        admission.set_limit(TYPES[0], 0)
        admission.add_tokens(TYPES[0], 1)
        for uid in ("b", "a"):
            admission.offer(uid, Claim(TYPES[0], rank(0, T0, uid, uid), takes_token=True, lock=KEYS[0]))
        assert [admission.gate(uid) for uid in ("b", "a")] == [None, Gate.BUDGET]
        admission.leave("b")
        assert admission.gate("a") is None
