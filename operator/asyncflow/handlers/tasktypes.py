"""The handler of TaskType events."""

from typing import Any

import kopf

from asyncflow.api import names
from asyncflow.kube.source import Source


def register(registry: kopf.OperatorRegistry, source: Source) -> None:
    """Register the handler of TaskType events."""

    @kopf.on.event(names.GROUP, names.VERSION, names.TYPE_PLURAL, registry=registry)
    async def tasktype_changed(event: Any, **_: Any) -> None:
        source.deliver(event["type"], event["object"])
