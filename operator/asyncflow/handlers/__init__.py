"""The kopf handlers, one module per resource: each delivers events to the cluster state.

Only ``on.event`` handlers are registered: they neither patch objects nor add finalizers, so a standby can run
them too. Timers of kopf would add a finalizer to every TaskType, and would stop while a TaskType is being
deleted, although its attempts still run. So the governors have timers of their own
(`asyncflow.controller.leader_term`).

`asyncflow.kube.reflector` watches Jobs and pods. A short task causes four events of its Job; with kopf they
would increase the CPU per task by half (docs/concepts/architecture.md). Pods need different field selectors
for list and watch.
"""

import kopf

from asyncflow.controller.sources import Sources
from asyncflow.handlers import asynctasks, leases, tasktypes


def register(registry: kopf.OperatorRegistry, sources: Sources) -> None:
    """Register all handlers."""
    asynctasks.register(registry, sources.asynctasks)
    tasktypes.register(registry, sources.tasktypes)
    leases.register(registry, sources.leases)
