"""Keeps what is known of a kind like what the API server has: one list, then a watch from its version on.

As client-go's reflector does it (``tools/cache``): a watch that ended is taken up again where it was, without
a list; only if the server remembers no more of that moment (410) all has to be read anew.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from asyncflow.kube.client import ApiClient, ApiError, ApiUnreachable, Body, Resource

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
"""Seconds until a watch that was refused or cut off is tried again: at first, and at most."""

PATIENCE = 5
"""After so many refusals in a row from one version another version is tried: all is read anew."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which objects are of interest, and what takes them."""

    resource: Resource
    put: Callable[[Body], object]
    """Takes an object as it is; also as it was last, when it was deleted."""
    drop: Callable[[str], object] | None = None
    """Takes the uid of an object that was deleted, or fits the selectors no more."""
    labels: str | None = None
    fields: str | None = None
    watched_fields: str | None = None
    """Of the watch, where it is narrower than the list."""


class Reflector:
    """Follows one kind of object, in one namespace or in all."""

    def __init__(self, client: ApiClient, source: Source, namespace: str | None) -> None:
        self._client = client
        self._source = source
        self._namespace = namespace
        self._version = ""
        self._was_read = asyncio.Event()
        self.lost = 0
        """How often changes were missed: from then on nothing is heard until the next `read`."""

    async def read(self) -> tuple[set[str], int]:
        """Read all objects; return their uids, and the version in which they are all there is.

        Raises:
            ApiError, ApiUnreachable: they could not be read.
        """
        source, uids = self._source, set[str]()
        async for part in self._client.parts(
            source.resource, self._namespace, labels=source.labels, fields=source.fields
        ):
            for body in part.items:
                self._put(body)
                uids.add(body["metadata"]["uid"])
        if not self._was_read.is_set():
            self._version = part.resource_version
            self._was_read.set()
        return uids, int(part.resource_version)

    async def follow(self) -> None:
        """Hear of every change since the first `read`, until cancelled."""
        failures = 0
        while True:
            await self._was_read.wait()
            before = self._version
            try:
                await self._watch()
                failures = 0
            except (ApiError, ApiUnreachable) as error:
                failures = failures + 1 if self._version == before else 1
                if isinstance(error, ApiError) and (error.status == 410 or failures >= PATIENCE):
                    logger.warning("%s have to be read anew: %s", self._source.resource.plural, error)
                    self._was_read.clear()
                    self.lost += 1
                    failures = 0
                    continue
                logger.info("the watch of %s was cut off: %s", self._source.resource.plural, error)
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures, 16))
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    async def _watch(self) -> None:
        source = self._source
        async for event, body in self._client.watch(
            source.resource,
            self._namespace,
            version=self._version,
            labels=source.labels,
            fields=source.watched_fields or source.fields,
        ):
            if event != "BOOKMARK":
                self._put(body)
                if event == "DELETED" and source.drop is not None:
                    source.drop(body["metadata"]["uid"])
            self._version = body["metadata"]["resourceVersion"]

    def _put(self, body: Body) -> None:
        """Hand an object on. One that can't be read must not keep all others from being."""
        try:
            self._source.put(body)
        except Exception:
            what, meta = self._source.resource.plural, body.get("metadata", {})
            logger.exception("%s %s/%s is passed over", what, meta.get("namespace"), meta.get("name"))
