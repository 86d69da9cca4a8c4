"""The handler of Lease events. The label selector of the watch admits only Leases that are locks."""

from typing import Any

import kopf

from asyncflow.kube.source import Source


def register(registry: kopf.OperatorRegistry, source: Source) -> None:
    """Register the handler of Lease events."""

    @kopf.on.event("coordination.k8s.io", "v1", "leases", registry=registry)
    async def lease_changed(event: Any, **_: Any) -> None:
        source.deliver(event["type"], event["object"])
