"""The kopf handlers, one module a resource: each hands what kopf tells it to the cluster state.

Only ``on.event`` handlers: they neither patch an object nor put a finalizer on it, also from a standby.
kopf's timers would put one on every TaskType, and stop while a type is being deleted although its attempts
run on; so the governors have timers of their own (`asyncflow.controller.leader_term`).

Jobs and pods are followed by `asyncflow.kube.reflector`: a short task has four events of its Job, which would
cost half as much CPU again by way of kopf (docs/concepts/architecture.md), and pods need a list and a watch
with different field selectors.
"""

import kopf

from asyncflow.controller.sources import Sources
from asyncflow.handlers import asynctasks, leases, tasktypes


def register(registry: kopf.OperatorRegistry, sources: Sources) -> None:
    """Register all handlers."""
    asynctasks.register(registry, sources.asynctasks)
    tasktypes.register(registry, sources.tasktypes)
    leases.register(registry, sources.leases)
