"""kopf's part: it watches types and locks, of which there are few, and hands each event to the store.

Only ``on.event`` handlers: they neither patch an object nor put a finalizer on it. kopf's timers would put
one on every type, also from a standby, which may not write; and they stop when a type is being deleted, while
its attempts run on. So the governors have loops of their own: `asyncflow.handlers.work`. Tasks, Jobs and pods
come in thousands, and kopf keeps 10 KiB for each and takes 0.3 ms of CPU an event: those are followed by
`asyncflow.kube.reflector`.
"""

from typing import Any

import kopf

from asyncflow.api import names
from asyncflow.handlers.operator import Operator
from asyncflow.kube.client import LEASES, TYPES, Resource


def register(registry: kopf.OperatorRegistry, operator: Operator) -> None:
    """Register what kopf has to call."""

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        connection = operator.connection  # a session of its own: kopf closes it when it likes
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=connection.new_session())

    store = operator.store
    for resource, put, drop in (
        (TYPES, store.put_type, store.drop_type),
        (LEASES, store.put_lock, store.drop_lock),
    ):
        _watch(registry, resource, put, drop)


def _watch(registry: kopf.OperatorRegistry, resource: Resource, put: Any, drop: Any) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry, id=resource.plural)
    async def note(event: kopf.RawEvent, **_: Any) -> None:
        put(event["object"])
        if event["type"] == "DELETED":
            drop(event["object"]["metadata"]["uid"])


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.watching.label_selectors["coordination.k8s.io", "leases"] = names.LOCKS
    settings.process.ultimate_exiting_timeout = 60


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps nothing on the objects: there are no handlers of differences."""

    def fetch(self, *, body: Any) -> None:
        """Return nothing: nothing was kept."""

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Keep nothing."""


class NoProgress(kopf.ProgressStorage):
    """Keeps nothing on the objects: there are no handlers with progress."""

    def fetch(self, *, key: Any, body: Any) -> None:
        """Return nothing: nothing was kept."""

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Keep nothing."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Remove nothing."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Touch nothing."""

    def clear(self, *, essence: Any) -> Any:
        """Return the essence as it is."""
        return essence
