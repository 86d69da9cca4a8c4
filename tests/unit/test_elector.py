"""The leader's Lease, on a clock that only requests move: nothing hangs on how fast anything is."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from asyncflow.kube.client import ApiClient, ApiError, Body, NotLeading, Resource
from asyncflow.kube.connection import Connection
from asyncflow.kube.elector import Elector

LEASE = 15.0


class Leases:
    """One Lease as the API server keeps it; each request takes a second."""

    def __init__(self, holder: str | None) -> None:
        self.now = 1000.0
        self.version = 1
        self.reads = 0
        self.before_read: Callable[[], None] = lambda: None
        self.lease: Body | None = None
        if holder is not None:
            spec = {"holderIdentity": holder, "leaseDurationSeconds": int(LEASE)}
            self.lease = {"metadata": {"resourceVersion": "1"}, "spec": spec}

    def write(self, holder: str) -> None:
        assert self.lease is not None
        self.version += 1
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        self.lease["spec"]["holderIdentity"] = holder

    async def get(self, *_: Any) -> Body:
        self.before_read()
        self.reads += 1
        self.now += 1
        if self.lease is None:
            raise ApiError(404, "NotFound", "no such Lease")
        return copy.deepcopy(self.lease)

    async def create(self, _: Resource, __: str, body: Body) -> Body:
        self.now += 1
        self.lease = {**body, "metadata": {"resourceVersion": "1"}}
        return self.lease

    async def replace(self, _: Resource, __: str, ___: str, body: Body) -> Body:
        assert self.lease is not None
        self.now += 1
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "it has changed")
        self.lease = copy.deepcopy(body)
        self.write(body["spec"]["holderIdentity"])
        return self.lease


def elector(leases: Any, identity: str = "me") -> Elector:
    return Elector(
        leases,
        namespace="system",
        name="leader",
        identity=identity,
        lease_seconds=LEASE,
        renew_seconds=0.001,
        request_seconds=0.001,
        clock=lambda: leases.now,
    )


async def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    leases = Leases("")
    mine = elector(leases)
    await asyncio.wait_for(mine.acquire(), 10)
    assert mine.leading
    assert leases.reads == 1


async def test_a_rivals_lease_is_taken_when_it_has_stood_unchanged_for_its_whole_time() -> None:
    leases = Leases("other")
    mine = elector(leases)
    await asyncio.wait_for(mine.acquire(), 10)
    assert mine.leading
    assert leases.reads >= LEASE, "each read took a second of the clock"


async def test_a_rival_that_renews_is_left_alone() -> None:
    leases = Leases("other")

    def renewed() -> None:
        leases.write("other")
        if leases.reads > 60:
            raise asyncio.CancelledError

    leases.before_read = renewed
    mine = elector(leases)
    with pytest.raises(asyncio.CancelledError):
        await mine.acquire()
    assert not mine.leading
    assert mine.standing_by


async def test_a_leadership_is_reckoned_from_the_moment_of_sending() -> None:
    leases = Leases("")
    mine = elector(leases)
    sent = leases.now + 1  # after the read; the write's answer comes a second later still
    await mine.acquire()
    leases.now = sent + LEASE - 0.1
    assert mine.leading
    leases.now = sent + LEASE
    assert not mine.leading


async def test_it_ends_when_another_one_holds_the_lease() -> None:
    leases = Leases("")
    mine = elector(leases)
    await mine.acquire()
    leases.write("other")
    await asyncio.wait_for(mine.keep(), 10)
    assert not mine.leading


async def test_a_missing_lease_is_not_trusted_at_once() -> None:
    """Somebody may have deleted it under a leader, who writes until its time is over."""
    leases = Leases(None)
    mine = elector(leases)
    taking = asyncio.create_task(mine.acquire())
    done, _ = await asyncio.wait({taking}, timeout=0.2)
    assert not done
    assert leases.lease is not None
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)


async def test_giving_back_lets_the_next_one_lead() -> None:
    leases = Leases("")
    mine = elector(leases)
    await mine.acquire()
    await mine.release()
    assert not mine.leading
    assert leases.lease is not None
    assert leases.lease["spec"]["holderIdentity"] == ""


async def test_who_does_not_lead_sends_no_write(monkeypatch: pytest.MonkeyPatch) -> None:
    unused: Any = None
    connection: Connection = unused
    client = ApiClient(connection, may_write=lambda: False)
    with pytest.raises(NotLeading):
        await client.patch(Resource("", "v1", "pods"), "ns", "p", {})
