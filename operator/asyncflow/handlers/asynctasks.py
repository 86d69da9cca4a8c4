"""The handler of AsyncTask events."""

from typing import Any

import kopf

from asyncflow.api import names
from asyncflow.kube.source import Source


def register(registry: kopf.OperatorRegistry, source: Source) -> None:
    """Register the handler of AsyncTask events."""

    @kopf.on.event(names.GROUP, names.VERSION, names.TASK_PLURAL, registry=registry)
    async def asynctask_changed(event: Any, **_: Any) -> None:
        source.deliver(event["type"], event["object"])
