"""The leader's Lease, on a clock that only requests move: nothing hangs on how fast anything is."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from asyncflow.kube.client import LEASES, PODS, ApiClient, Body, NotLeading
from asyncflow.kube.elector import Elector
from support.fake_api import FakeApiServer, Request
from support.fake_http import FakeHttp, connected, serving

LEASE = 15.0
NAMESPACE, NAME = "system", "leader"
LIMIT = 10


class Leases:
    """The leader's Lease at the API server; each request takes a second."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.api = FakeApiServer()
        self.api.before = self._take_a_second
        self.writes = 0

    def _take_a_second(self, _: Request) -> None:
        self.now += 1

    @property
    def lease(self) -> Body:
        return self.api.get(LEASES, NAMESPACE, NAME)

    @property
    def reads(self) -> int:
        return sum(request.verb == "get" for request in self.api.requests)

    def held_by(self, holder: str) -> None:
        """Let the Lease be there, with its holder."""
        spec = {"holderIdentity": holder, "leaseDurationSeconds": int(LEASE)}
        self.api.create(LEASES, NAMESPACE, {"metadata": {"name": NAME}, "spec": spec})

    def write(self, holder: str) -> None:
        """Let somebody take or renew the Lease."""
        self.writes += 1
        spec = {"holderIdentity": holder, "renewTime": f"2026-01-01T00:00:00.{self.writes:06}Z"}
        self.api.patch(LEASES, NAMESPACE, NAME, {"spec": spec})


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
async def http(leases: Leases) -> AsyncIterator[FakeHttp]:
    async with serving(leases.api) as made:
        yield made


@pytest.fixture
async def mine(leases: Leases, http: FakeHttp) -> AsyncIterator[Elector]:
    async with connected(http) as client:
        yield elector(leases, client)


def elector(leases: Leases, client: ApiClient) -> Elector:
    return Elector(
        client,
        namespace=NAMESPACE,
        name=NAME,
        identity="me",
        lease_seconds=LEASE,
        renew_seconds=0.001,
        request_seconds=0.001,
        clock=lambda: leases.now,
    )


async def test_a_lease_that_was_given_back_is_taken_at_once(leases: Leases, mine: Elector) -> None:
    leases.held_by("")
    await asyncio.wait_for(mine.acquire(), LIMIT)
    assert mine.leading
    assert leases.reads == 1


async def test_a_rivals_lease_is_taken_when_it_has_stood_unchanged_for_its_whole_time(
    leases: Leases, mine: Elector
) -> None:
    leases.held_by("other")
    await asyncio.wait_for(mine.acquire(), LIMIT)
    assert mine.leading
    assert leases.reads >= LEASE, "each read took a second of the clock"


async def test_a_rival_that_renews_is_left_alone(leases: Leases, mine: Elector) -> None:
    leases.held_by("other")

    def renew(_: Request) -> None:
        leases.now += 1
        leases.write("other")

    leases.api.before = renew
    taking = asyncio.create_task(mine.acquire())
    await asyncio.wait_for(leases.api.until_requested("get", 60), LIMIT)
    assert not taking.done()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert not mine.leading
    assert mine.standing_by
    assert leases.reads == len(leases.api.requests), "it has written nothing"


async def test_a_leadership_is_reckoned_from_the_moment_of_sending(leases: Leases, mine: Elector) -> None:
    leases.held_by("")
    sent = leases.now + 1  # after the read; the write's answer comes a second later still
    await mine.acquire()
    leases.now = sent + LEASE - 0.1
    assert mine.leading
    leases.now = sent + LEASE
    assert not mine.leading


async def test_it_ends_when_another_one_holds_the_lease(leases: Leases, mine: Elector) -> None:
    leases.held_by("")
    await mine.acquire()
    leases.write("other")
    await asyncio.wait_for(mine.keep(), LIMIT)
    assert not mine.leading


async def test_a_missing_lease_is_not_trusted_at_once(leases: Leases, mine: Elector) -> None:
    """Somebody may have deleted it under a leader, who writes until its time is over."""
    taking = asyncio.create_task(mine.acquire())
    renewed = asyncio.create_task(leases.api.until_requested("update", 10))
    await asyncio.wait({taking, renewed}, timeout=LIMIT, return_when=asyncio.FIRST_COMPLETED)
    assert (taking.done(), renewed.done()) == (False, True)
    assert leases.lease["spec"]["holderIdentity"] == "me"
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)


async def test_giving_back_lets_the_next_one_lead(leases: Leases, mine: Elector) -> None:
    leases.held_by("")
    await mine.acquire()
    await mine.release()
    assert not mine.leading
    assert leases.lease["spec"]["holderIdentity"] == ""


async def test_who_does_not_lead_sends_no_write(http: FakeHttp) -> None:
    async with connected(http, may_write=lambda: False) as client:
        with pytest.raises(NotLeading):
            await client.patch(PODS, "ns", "p", {})
    assert http.requests == []
