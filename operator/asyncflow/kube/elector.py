"""One operator works, the others stand by: a Lease, held by the one that works.

A holder may write until its lease ends, measured on its own steady clock from the moment at which it *sent*
the renewal that succeeded. A rival takes the Lease when it has seen it unchanged for as long, measured on its
own clock from when it saw it: neither looks at the other's clock. A write that the former holder sent in its
last moment may still be in flight; that is waited out before anything is read that is to be trusted.
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
"""Who holds a Lease that its last holder gave back: nothing of it is in flight."""
NO_LEASE = "(no Lease)"
"""There was none: somebody may have deleted it under a leader."""

Clock = Callable[[], float]


def steady_clock() -> float:
    """Return seconds of a clock that never jumps, and goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Elector:
    """Takes, keeps and gives back the Lease of the leader.

    Args:
        client: the way to the API server, not gated by this elector.
        namespace: where the Lease is.
        name: its name.
        identity: who this operator is. A new process under an old identity goes on at once: use one that no
            two processes have at the same time, such as the pod's name.
        lease_seconds: how long a lease holds.
        renew_seconds: how often it is renewed.
        request_seconds: how long the API server may work on one write.
        clock: seconds of a steady clock.
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
        self._rival = False
        self._seen: tuple[str, float] | None = None
        """The Lease's version as last seen, and when it was first seen so."""

    @property
    def leading(self) -> bool:
        """Whether this operator may write now."""
        return self._clock() < self._until

    @property
    def standing_by(self) -> bool:
        """Whether another operator was seen to hold the Lease, when it was last looked at."""
        return self._rival and not self.leading

    async def acquire(self) -> None:
        """Wait until this operator leads, and until no write of a former leader can be in flight."""
        while True:
            try:
                former = await self._try()
                if former is not None and await self._waited_out(former):
                    return
            except (ApiError, ApiUnreachable) as error:
                logger.warning("failed to acquire leader Lease %s: %s", self._name, error)
            await asyncio.sleep(min(self._renew_seconds, self._lease_seconds / 5))

    async def _waited_out(self, former: str) -> bool:
        """Wait until no write of a former leader can be in flight; tell whether this one leads still."""
        if former == RELEASED:
            return True
        wait = self._request_seconds + (self._lease_seconds if former == NO_LEASE else 0)
        logger.info("acquired leader Lease, waiting %.0f s for in-flight writes of the previous leader", wait)
        keeping = asyncio.create_task(self.keep())
        try:
            await asyncio.wait({keeping}, timeout=wait)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        return self.leading

    async def keep(self) -> None:
        """Renew the lease until it is lost; then return."""
        while self.leading:
            await asyncio.sleep(min(self._renew_seconds, max(0.0, self._until - self._clock())))
            if not self.leading:
                break
            until = self._until
            try:
                async with asyncio.timeout(until - self._clock()):
                    if await self._try() is None or self._clock() >= until:
                        break  # what was not renewed in time is lost, though it be had again
            except (ApiError, ApiUnreachable, TimeoutError) as error:
                logger.warning("failed to renew leader Lease %s: %s", self._name, error or "no answer")
        self._until = float("-inf")

    async def release(self) -> None:
        """Let another operator lead at once. Nothing of this one may be in flight any more."""
        if not self.leading:
            return
        self._until = float("-inf")
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)
            if lease["spec"].get("holderIdentity") == self.identity:
                await self._put(lease, "")
        except (ApiError, ApiUnreachable) as error:
            logger.warning("failed to release leader Lease %s: %s", self._name, error)

    async def _try(self) -> str | None:
        """Take or renew the Lease; return who held it before, or None if another one holds it.

        Raises:
            ApiError: among others, somebody changed the Lease meanwhile.
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
            await self._client.create(LEASES, self._namespace, self._filled(body, self.identity))
            self._until = sent + self._lease_seconds
            return NO_LEASE
        holder = (lease.get("spec") or {}).get("holderIdentity") or ""
        if holder not in ("", self.identity) and not self._run_out(lease):
            self._until = float("-inf")
            self._rival = True
            return None
        sent = self._clock()
        await self._put(lease, self.identity)
        self._until = sent + self._lease_seconds
        self._rival = False
        return str(holder)

    def _run_out(self, lease: Body) -> bool:
        version, now = lease["metadata"]["resourceVersion"], self._clock()
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
        theirs = lease["spec"].get("leaseDurationSeconds") or 0
        return now >= self._seen[1] + max(theirs, self._lease_seconds)

    async def _put(self, lease: Body, holder: str) -> None:
        """Write the Lease on the condition that it is still as it was read."""
        await self._client.replace(LEASES, self._namespace, self._name, self._filled(lease, holder))

    def _filled(self, lease: Body, holder: str) -> Body:
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
