"""Which objects of a resource are of interest, and what takes them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from asyncflow.kube.client import ApiClient, Body, Resource

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """The objects of one resource that the operator follows."""

    resource: Resource
    put: Callable[[Body], object]
    """Takes an object as it is; also its last state, when it was deleted."""
    drop: Callable[[str], object] | None = None
    """Takes the uid of an object that was deleted or no longer matches the selectors."""
    labels: str | None = None
    fields: str | None = None
    watched_fields: str | None = None
    """Field selector of the watch, where it is narrower than that of the list."""

    def deliver(self, event_type: str | None, body: Body) -> None:
        """Hand on what a list (no event type) or a watch event says of an object.

        An object that cannot be handled is logged and skipped: it must not hide the others.
        """
        try:
            self.put(body)
            if event_type == "DELETED" and self.drop is not None:
                self.drop(body["metadata"]["uid"])
        except Exception:
            meta = body.get("metadata", {})
            logger.exception(
                "skipping %s %s/%s", self.resource.plural, meta.get("namespace"), meta.get("name")
            )

    async def read(self, client: ApiClient, namespace: str | None) -> tuple[set[str], int]:
        """Read all objects, in one consistent list; return their uids and the list's resource version.

        Raises:
            ApiError, ApiUnreachable: they could not be read.
        """
        uids, version = set[str](), ""
        async for part in client.parts(self.resource, namespace, labels=self.labels, fields=self.fields):
            version = part.resource_version
            for body in part.items:
                self.deliver(None, body)
                uids.add(body["metadata"]["uid"])
        return uids, int(version)
