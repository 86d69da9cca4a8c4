"""Admission: what a task that is ready to start has to wait for.

In this order: a retry token, if it is a retry; its lockKey; a slot of its type. A task that waits for a token
or a key holds no slot.
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
"""Namespace and name of a TaskType."""
LockId = tuple[str, str]
"""Namespace and name of a lock's Lease."""


class Gate(StrEnum):
    """What a task has to wait for before it may wait for a slot."""

    LOCK = "lock"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a task that is ready to start needs."""

    type_key: TypeKey
    rank: Rank
    takes_token: bool = False
    lock: LockId | None = None


class Admission:
    """The slots, retry tokens and lock keys of all types, and the tasks that wait for them.

    Methods that return a list of tasks return those to reconcile: tasks that were granted a slot, and tasks
    that wait for something else than before.
    """

    def __init__(self) -> None:
        self._slots: defaultdict[TypeKey, Slots] = defaultdict(Slots)
        self._tokens: defaultdict[TypeKey, RetryTokens] = defaultdict(RetryTokens)
        self._keys: defaultdict[LockId, KeyQueue] = defaultdict(KeyQueue)
        self._claims: dict[str, Claim] = {}
        self._candidates: dict[LockId, str] = {}
        """By lock: the task that is next for the key and may wait for a slot."""

    def slots(self, type_key: TypeKey) -> Slots:
        """Return the slots of a type."""
        return self._slots[type_key]

    def tokens(self, type_key: TypeKey) -> RetryTokens:
        """Return the retry tokens of a type."""
        return self._tokens[type_key]

    def holds_slot(self, uid: str) -> bool:
        """Return whether the task may start now."""
        claim = self._claims.get(uid)
        return claim is not None and self._slots[claim.type_key].holds(uid)

    def gate(self, uid: str) -> Gate | None:
        """Return what the task has to wait for before it may wait for a slot; None if nothing."""
        claim = self._claims.get(uid)
        if claim is None or self.holds_slot(uid):
            return None
        if claim.takes_token and uid not in self._tokens[claim.type_key].granted:
            return Gate.BUDGET
        if claim.lock is not None and self._candidates.get(claim.lock) != uid:
            return Gate.LOCK
        return None

    # Changes of a task

    def offer(self, uid: str, claim: Claim) -> list[str]:
        """Add the claim of a task without a live attempt, or change it."""
        old = self._claims.get(uid)
        woken: list[str] = []
        if old is not None and old != claim and not self.holds_slot(uid):
            woken = self.leave(uid)
        elif old is None:
            self._slots[claim.type_key].live.discard(uid)
            woken = self._release_key(uid, claim)
        self._claims[uid] = claim
        return [*woken, *self._advance(uid)]

    def begin(self, uid: str) -> None:
        """Use the slot that a task holds: its Job is about to be created."""
        claim = self._claims.get(uid)
        if claim is not None:
            self._slots[claim.type_key].begin(uid)

    def occupy(self, uid: str, type_key: TypeKey, lock: LockId | None = None) -> list[str]:
        """Record a live attempt of a task: it has a slot and its key, and has used its token."""
        claim = self._claims.pop(uid, None)
        self._tokens[type_key].use(uid)
        self._slots[type_key].occupy(uid)
        if lock is None:
            return []
        self._keys[lock].occupy(uid)
        if claim is not None and self._candidates.get(lock) == uid:
            del self._candidates[lock]
        return self._select_candidate(lock)

    def leave(self, uid: str, type_key: TypeKey | None = None, lock: LockId | None = None) -> list[str]:
        """Release all that a task holds, and cancel all that it waits for.

        Args:
            uid: the task.
            type_key: its type; needed if the task may have a live attempt.
            lock: its lock; needed if the task has a lockKey and may have a live attempt.
        """
        claim = self._claims.pop(uid, None)
        type_key = claim.type_key if claim else type_key
        lock = claim.lock if claim else lock
        if lock is not None:
            self._keys[lock].leave(uid)
            if self._candidates.get(lock) == uid:
                del self._candidates[lock]
        woken = self._slots[type_key].leave(uid) if type_key is not None else []
        woken += self._select_candidate(lock) if lock is not None else []
        for other in self._tokens[type_key].leave(uid) if type_key is not None else []:
            woken += self._advance(other)
        return woken

    def _release_key(self, uid: str, claim: Claim) -> list[str]:
        """Release the key of a task whose attempt has ended."""
        if claim.lock is None:
            return []
        self._keys[claim.lock].live.discard(uid)
        return self._select_candidate(claim.lock)

    def _advance(self, uid: str) -> list[str]:
        """Move a claim to the next thing that it has to wait for."""
        claim = self._claims.get(uid)
        if claim is None:
            return []
        if claim.takes_token and not self._tokens[claim.type_key].request(uid, claim.rank):
            return []
        if claim.lock is None:
            return self._slots[claim.type_key].offer(uid, claim.rank)
        self._keys[claim.lock].put(uid, claim.rank)
        return self._select_candidate(claim.lock)

    def _select_candidate(self, lock: LockId) -> list[str]:
        """Select the candidate for a key; the previous one waits again, unless it is about to start."""
        woken: list[str] = []
        before, after = self._candidates.get(lock), self._keys[lock].next()
        if before is not None and before != after:
            if self.holds_slot(before) and after is not None and self._keys[lock].lease_holder != after:
                return []  # the previous candidate is about to start
            del self._candidates[lock]
            woken += [before, *self._slots[self._claims[before].type_key].leave(before)]
        if after is not None and after in self._claims:
            self._candidates[lock] = after
            claim = self._claims[after]
            woken += [after] if before != after else []
            woken += self._slots[claim.type_key].offer(after, claim.rank)
        if self._keys[lock].idle:
            del self._keys[lock]
        return woken

    def waiting_for(self, lock: LockId) -> list[str]:
        """Return the tasks that wait for a lock."""
        return list(self._keys[lock].queue) if lock in self._keys else []

    # Changes of limits, tokens and locks

    def set_lease_holder(self, lock: LockId, uid: str | None) -> list[str]:
        """Record the task that holds a lock's Lease; None if there is no Lease."""
        if self._keys[lock].lease_holder == uid:
            return self._select_candidate(lock)
        self._keys[lock].lease_holder = uid
        return self._select_candidate(lock)

    def add_tokens(self, type_key: TypeKey, tokens: int) -> list[str]:
        """Grant retry tokens that were withdrawn from a type's budget."""
        woken: list[str] = []
        for uid in self._tokens[type_key].add(tokens):
            woken += [uid, *self._advance(uid)]
        return woken

    def live_types(self) -> list[TypeKey]:
        """Return the types that have live attempts."""
        return [type_key for type_key, slots in self._slots.items() if slots.live]

    def expect(self, type_key: TypeKey, uids: Iterable[str]) -> None:
        """Grant no slots of a type until each of these tasks was evaluated."""
        self._slots[type_key].expect(uids)

    def mark_evaluated(self, type_key: TypeKey, uid: str) -> list[str]:
        """Record that a task was evaluated."""
        return self._slots[type_key].mark_evaluated(uid)

    def stop_expecting(self, uid: str) -> list[str]:
        """Wait no longer for the evaluation of a deleted task, whatever its type was."""
        return [other for slots in list(self._slots.values()) for other in slots.mark_evaluated(uid)]

    def set_limit(self, type_key: TypeKey, limit: int) -> list[str]:
        """Change the concurrency limit of a type."""
        return self._slots[type_key].set_limit(limit)

    def forget(self, uid: str) -> list[str]:
        """Remove a deleted task, whatever its type and lock were."""
        woken = self.leave(uid)
        for slots in list(self._slots.values()):
            woken += slots.leave(uid)
        for lock in [lock for lock, queue in self._keys.items() if uid in queue.live]:
            self._keys[lock].leave(uid)
            woken += self._select_candidate(lock)
        return woken
