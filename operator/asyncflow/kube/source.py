"""Which objects of a resource the operator reads, and where they are delivered."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from asyncflow.kube.client import ApiClient, Body, Resource

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """The objects of one resource that the operator reads."""

    resource: Resource
    put: Callable[[Body], object]
    """Called with the current state of an object; with its last state if it was deleted."""
    drop: Callable[[str], object] | None = None
    """Called with the uid of an object that was deleted or no longer matches the selectors."""
    labels: str | None = None
    """Label selector of list and watch."""
    fields: str | None = None
    """Field selector of the list and, by default, of the watch."""
    watched_fields: str | None = None
    """Field selector of the watch, if it is narrower than that of the list."""

    def deliver(self, event_type: str | None, body: Body) -> None:
        """Deliver an object of a list (``event_type`` is None) or of a watch event.

        An object that cannot be processed is logged and skipped, so that it does not block the others.
        """
        try:
            self.put(body)
            if event_type == "DELETED" and self.drop is not None:
                self.drop(body["metadata"]["uid"])
        except Exception:
            meta = body.get("metadata", {})
            logger.exception(
                "skipping invalid %s %s/%s", self.resource.plural, meta.get("namespace"), meta.get("name")
            )

    async def read(self, client: ApiClient, namespace: str | None) -> tuple[set[str], int]:
        """Deliver all objects of a consistent list; return their uids and the resource version of the list.

        Raises:
            ApiError, ApiUnreachable: the list failed.
        """
        uids, version = set[str](), ""
        async for page in client.parts(self.resource, namespace, labels=self.labels, fields=self.fields):
            version = page.resource_version
            for body in page.items:
                self.deliver(None, body)
                uids.add(body["metadata"]["uid"])
        return uids, int(version)
