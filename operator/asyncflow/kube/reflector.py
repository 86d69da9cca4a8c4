"""Follows a resource: one list, then a watch from the list's version on.

As client-go's reflector does it (``tools/cache``): a watch that ended is resumed where it was, without a
list; only if the server no longer has that version (410) a new list is due. It serves Jobs and
pods: see `asyncflow.handlers`.
"""

import asyncio
import logging
import random

from asyncflow.kube.client import ApiClient, ApiError, ApiUnreachable
from asyncflow.kube.source import Source

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
"""Seconds until a watch that was refused or cut off is tried again: at first, and at most."""

PATIENCE = 5
"""After so many refusals in a row from one version another version is tried: all is listed again."""


class Reflector:
    """Follows one resource, in one namespace or in all."""

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
        uids, version = await self._source.read(self._client, self._namespace)
        if not self._was_read.is_set():
            self._version = str(version)
            self._was_read.set()
        return uids, version

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
                    logger.warning("relisting %s: %s", self._source.resource.plural, error)
                    self._was_read.clear()
                    self.lost += 1
                    failures = 0
                    continue
                logger.info("watch of %s closed, resuming: %s", self._source.resource.plural, error)
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
                source.deliver(event, body)
            self._version = body["metadata"]["resourceVersion"]
