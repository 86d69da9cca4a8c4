"""The Leases that are locks; others are filtered out by the label selector of the watch."""

from typing import Any

import kopf

from asyncflow.kube.source import Source


def register(registry: kopf.OperatorRegistry, source: Source) -> None:
    """Register the handler of Lease events."""

    @kopf.on.event("coordination.k8s.io", "v1", "leases", registry=registry)
    async def lease_changed(event: Any, **_: Any) -> None:
        source.deliver(event["type"], event["object"])
