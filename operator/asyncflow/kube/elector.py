"""Leader election: one operator leads, the others stand by. The leader holds a Lease.

The leader may write until its lease expires: `lease_seconds` on its own clock, from the moment at which it
*sent* the last successful renewal. A standby acquires the Lease after it has observed it unchanged for the
same time on its own clock. Neither compares clocks, so clock skew does not matter (as in client-go's
``leaderelection``). A write that the previous leader sent just before expiry may still be in flight: a new
leader waits for that before it reads the cluster.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from asyncflow.kube.client import LEASES, ApiClient, ApiError, ApiUnreachable, Body

logger = logging.getLogger(__name__)

RELEASED = ""
"""Holder of a Lease that its leader has released: no write of it is in flight."""
NO_LEASE = "(no Lease)"
"""The Lease did not exist: it may have been deleted while another operator leads."""

Clock = Callable[[], float]


def steady_clock() -> float:
    """Return the seconds of a monotonic clock that includes the time in which the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """Acquires, renews and releases the leader Lease.

    Args:
        client: the API client; its writes must not depend on this elector.
        namespace: the namespace of the Lease.
        name: the name of the Lease.
        identity: the holder identity of this operator. A process that finds its own identity in the Lease
            does not wait for expiry, so no two processes may share one at the same time: use the name of the
            pod.
        lease_seconds: how long the Lease is valid after a renewal.
        renew_seconds: the interval between renewals.
        request_seconds: how long a write of the previous leader may be in flight.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        lease_seconds: float,
        renew_seconds: float,
        request_seconds: float,
        clock: Clock = steady_clock,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._lease_seconds = lease_seconds
        self._renew_seconds = renew_seconds
        self._request_seconds = request_seconds
        self._clock = clock
        self._until = float("-inf")
        self._held_by_other = False
        self._observed: tuple[str, float] | None = None
        """The last observed resource version of the Lease, and when it was first observed."""

    @property
    def leading(self) -> bool:
        """Whether this operator may write now."""
        return self._clock() < self._until

    @property
    def standing_by(self) -> bool:
        """Whether another operator held the Lease at the last read."""
        return self._held_by_other and not self.leading

    async def acquire(self) -> None:
        """Wait until this operator leads and no write of the previous leader can be in flight."""
        while True:
            try:
                previous = await self._try_acquire_or_renew()
                if previous is not None and await self._wait_for_writes_of(previous):
                    return
            except (ApiError, ApiUnreachable) as error:
                logger.warning("failed to acquire leader Lease %s: %s", self._name, error)
            await asyncio.sleep(min(self._renew_seconds, self._lease_seconds / 5))

    async def _wait_for_writes_of(self, previous: str) -> bool:
        """Wait until no write of the previous leader is in flight; return whether this one still leads."""
        if previous == RELEASED:
            return True
        wait = self._request_seconds + (self._lease_seconds if previous == NO_LEASE else 0)
        logger.info("acquired leader Lease, waiting %.0f s for in-flight writes of the previous leader", wait)
        keeping = asyncio.create_task(self.keep())
        try:
            await asyncio.wait({keeping}, timeout=wait)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        return self.leading

    async def keep(self) -> None:
        """Renew the Lease; return when it is lost."""
        while self.leading:
            await asyncio.sleep(min(self._renew_seconds, max(0.0, self._until - self._clock())))
            if not self.leading:
                break
            until = self._until
            try:
                async with asyncio.timeout(until - self._clock()):
                    if await self._try_acquire_or_renew() is None or self._clock() >= until:
                        break  # a renewal after expiry counts as lost, even if it succeeded
            except (ApiError, ApiUnreachable, TimeoutError) as error:
                logger.warning("failed to renew leader Lease %s: %s", self._name, str(error) or "timed out")
        self._until = float("-inf")

    async def release(self) -> None:
        """Release the Lease, so that another operator can lead without waiting.

        No write of this operator may be in flight.
        """
        if not self.leading:
            return
        self._until = float("-inf")
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)
            if lease["spec"].get("holderIdentity") == self.identity:
                await self._replace(lease, "")
        except (ApiError, ApiUnreachable) as error:
            logger.warning("failed to release leader Lease %s: %s", self._name, error)

    async def _try_acquire_or_renew(self) -> str | None:
        """Acquire or renew the Lease; return its previous holder, or None if another operator holds it.

        Raises:
            ApiError: the API server responded with an error, such as 409: the Lease has changed since it was
                read.
            ApiUnreachable: it did not respond.
        """
        sent = self._clock()
        try:
            lease: Body | None = await self._client.get(LEASES, self._namespace, self._name)
        except ApiError as error:
            if not error.not_found:
                raise
            lease = None
        if lease is None:
            body: dict[str, Any] = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": {},
            }
            await self._client.create(LEASES, self._namespace, self._with_holder(body, self.identity))
            self._until = sent + self._lease_seconds
            return NO_LEASE
        holder = (lease.get("spec") or {}).get("holderIdentity") or ""
        if holder not in ("", self.identity) and not self._expired(lease):
            self._until = float("-inf")
            self._held_by_other = True
            return None
        sent = self._clock()
        await self._replace(lease, self.identity)
        self._until = sent + self._lease_seconds
        self._held_by_other = False
        return str(holder)

    def _expired(self, lease: Body) -> bool:
        version, now = lease["metadata"]["resourceVersion"], self._clock()
        if self._observed is None or self._observed[0] != version:
            self._observed = (version, now)
        holder_seconds = lease["spec"].get("leaseDurationSeconds") or 0
        return now >= self._observed[1] + max(holder_seconds, self._lease_seconds)

    async def _replace(self, lease: Body, holder: str) -> None:
        """Write the Lease with a holder, provided that it has not changed since it was read."""
        await self._client.replace(LEASES, self._namespace, self._name, self._with_holder(lease, holder))

    def _with_holder(self, lease: Body, holder: str) -> Body:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict(lease.get("spec") or {})
        if spec.get("holderIdentity") != holder:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = spec.get("leaseTransitions", 0) + (1 if holder else 0)
        spec |= {
            "holderIdentity": holder,
            "renewTime": now,
            "leaseDurationSeconds": max(1, round(self._lease_seconds)),
        }
        return {**lease, "spec": spec}
