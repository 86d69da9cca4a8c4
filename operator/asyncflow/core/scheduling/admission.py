"""Who may start: what a task needs beside its own readiness.

In this order: a token, if it is a retry; its lockKey; a slot of its type. Who waits for a token or a key
holds no slot.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from asyncflow.core.scheduling.lock_queue import KeyQueue
from asyncflow.core.scheduling.priority_queue import Rank
from asyncflow.core.scheduling.retry_tokens import RetryTokens
from asyncflow.core.scheduling.slots import Slots

TypeKey = tuple[str, str]
"""Namespace and name of a type."""
LockId = tuple[str, str]
"""Namespace and name of a lock's Lease."""


class Gate(StrEnum):
    """What a task that could start waits for beside a slot."""

    LOCK = "lock"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a task that could start needs."""

    type_key: TypeKey
    place: Rank
    takes_token: bool = False
    lock: LockId | None = None


class Admission:
    """Slots, tokens and keys of all types, and who waits for what.

    Methods that let somebody pass return the tasks to look at again: those that hold a new slot, and those
    that wait for something else than before.
    """

    def __init__(self) -> None:
        self._slots: defaultdict[TypeKey, Slots] = defaultdict(Slots)
        self._tokens: defaultdict[TypeKey, RetryTokens] = defaultdict(RetryTokens)
        self._keys: defaultdict[LockId, KeyQueue] = defaultdict(KeyQueue)
        self._claims: dict[str, Claim] = {}
        self._passed: dict[LockId, str] = {}
        """By key: the task that was let through to wait for a slot."""

    def slots(self, type_key: TypeKey) -> Slots:
        """Return the slots of a type."""
        return self._slots[type_key]

    def tokens(self, type_key: TypeKey) -> RetryTokens:
        """Return the retry tokens of a type."""
        return self._tokens[type_key]

    def holds_slot(self, uid: str) -> bool:
        """Tell whether the task may start now."""
        claim = self._claims.get(uid)
        return claim is not None and self._slots[claim.type_key].holds(uid)

    def gate(self, uid: str) -> Gate | None:
        """Return what the task waits for before it may wait for a slot."""
        claim = self._claims.get(uid)
        if claim is None or self.holds_slot(uid):
            return None
        if claim.takes_token and uid not in self._tokens[claim.type_key].granted:
            return Gate.BUDGET
        if claim.lock is not None and self._passed.get(claim.lock) != uid:
            return Gate.LOCK
        return None

    # What tasks do

    def offer(self, uid: str, claim: Claim) -> list[str]:
        """Let a task without a live attempt wait for what it needs, or change its claim."""
        old = self._claims.get(uid)
        woken: list[str] = []
        if old is not None and old != claim and not self.holds_slot(uid):
            woken = self.leave(uid)
        elif old is None:
            self._slots[claim.type_key].live.discard(uid)
            woken = self._vacated(uid, claim)
        self._claims[uid] = claim
        return [*woken, *self._advance(uid)]

    def begin(self, uid: str) -> None:
        """Use the slot that a task holds: its Job is about to be made."""
        claim = self._claims.get(uid)
        if claim is not None:
            self._slots[claim.type_key].begin(uid)

    def occupy(self, uid: str, type_key: TypeKey, lock: LockId | None = None) -> list[str]:
        """Count a live attempt that is there: it has its slot and its key, and has used its token."""
        claim = self._claims.pop(uid, None)
        self._tokens[type_key].use(uid)
        self._slots[type_key].occupy(uid)
        if lock is None:
            return []
        self._keys[lock].occupy(uid)
        if claim is not None and self._passed.get(lock) == uid:
            del self._passed[lock]
        return self._turn(lock)

    def leave(self, uid: str, type_key: TypeKey | None = None, lock: LockId | None = None) -> list[str]:
        """Give up all that a task has or waits for.

        Args:
            uid: the task.
            type_key: its type, where it may have a live attempt.
            lock: its key, where it may have a live attempt.
        """
        claim = self._claims.pop(uid, None)
        type_key = claim.type_key if claim else type_key
        lock = claim.lock if claim else lock
        if lock is not None:
            self._keys[lock].leave(uid)
            if self._passed.get(lock) == uid:
                del self._passed[lock]
        woken = self._slots[type_key].leave(uid) if type_key is not None else []
        woken += self._turn(lock) if lock is not None else []
        for other in self._tokens[type_key].leave(uid) if type_key is not None else []:
            woken += self._advance(other)
        return woken

    def _vacated(self, uid: str, claim: Claim) -> list[str]:
        if claim.lock is None:
            return []
        self._keys[claim.lock].live.discard(uid)
        return self._turn(claim.lock)

    def _advance(self, uid: str) -> list[str]:
        """Bring a claim as far as it can go."""
        claim = self._claims.get(uid)
        if claim is None:
            return []
        if claim.takes_token and not self._tokens[claim.type_key].request(uid, claim.place):
            return []
        if claim.lock is None:
            return self._slots[claim.type_key].offer(uid, claim.place)
        self._keys[claim.lock].put(uid, claim.place)
        return self._turn(claim.lock)

    def _turn(self, lock: LockId) -> list[str]:
        """Let through who is next for a key; one let through before that has no slot yet steps back."""
        woken: list[str] = []
        before, after = self._passed.get(lock), self._keys[lock].next()
        if before is not None and before != after:
            if self.holds_slot(before) and after is not None and self._keys[lock].leased != after:
                return []  # it starts any moment
            del self._passed[lock]
            woken += [before, *self._slots[self._claims[before].type_key].leave(before)]
        if after is not None and after in self._claims:
            self._passed[lock] = after
            claim = self._claims[after]
            woken += [after] if before != after else []
            woken += self._slots[claim.type_key].offer(after, claim.place)
        if self._keys[lock].idle:
            del self._keys[lock]
        return woken

    def waiting_for(self, lock: LockId) -> list[str]:
        """Return the tasks that wait for a key."""
        return list(self._keys[lock].line) if lock in self._keys else []

    # What becomes known

    def set_leased(self, lock: LockId, uid: str | None) -> list[str]:
        """Note who holds a key's Lease."""
        if self._keys[lock].leased == uid:
            return self._turn(lock)
        self._keys[lock].leased = uid
        return self._turn(lock)

    def add_tokens(self, type_key: TypeKey, tokens: int) -> list[str]:
        """Grant retry tokens that were withdrawn from the budget of a type."""
        woken: list[str] = []
        for uid in self._tokens[type_key].add(tokens):
            woken += [uid, *self._advance(uid)]
        return woken

    def live_types(self) -> list[TypeKey]:
        """Return the types that have live attempts."""
        return [type_key for type_key, slots in self._slots.items() if slots.live]

    def expect(self, type_key: TypeKey, uids: Iterable[str]) -> None:
        """Grant no slot of a type until each of these tasks was evaluated."""
        self._slots[type_key].expect(uids)

    def settle(self, type_key: TypeKey, uid: str) -> list[str]:
        """Note that a task was evaluated."""
        return self._slots[type_key].settle(uid)

    def settle_everywhere(self, uid: str) -> list[str]:
        """Note that a task is no more, whatever its type was: nobody waits for it."""
        return [other for slots in list(self._slots.values()) for other in slots.settle(uid)]

    def set_limit(self, type_key: TypeKey, limit: int) -> list[str]:
        """Change how many of a type may run."""
        return self._slots[type_key].set_limit(limit)

    def forget(self, uid: str) -> list[str]:
        """Let go of a task that is no more: whatever type and key it had."""
        woken = self.leave(uid)
        for slots in list(self._slots.values()):
            woken += slots.leave(uid)
        for lock in [lock for lock, queue in self._keys.items() if uid in queue.live]:
            self._keys[lock].leave(uid)
            woken += self._turn(lock)
        return woken
