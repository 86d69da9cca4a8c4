"""Reflects a resource: one list, then a watch from the resource version of the list.

As client-go's reflector (``tools/cache``): a watch that has ended is resumed at the last resource version
without a list; a new list is needed only if the API server no longer has that version (410). Used for Jobs
and pods; kopf watches the other resources (`asyncflow.handlers`).
"""

import asyncio
import logging
import random

from asyncflow.kube.client import ApiClient, ApiError, ApiUnreachable
from asyncflow.kube.source import Source

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
"""Backoff of a watch that failed, in seconds: the first pause, and the maximum."""

MAX_FAILED_RESUMES = 5
"""After this many consecutive failures to resume a watch at a resource version, the resource is relisted."""


class Reflector:
    """Reflects one resource.

    Args:
        client: the API client.
        source: the objects to reflect, and where they are delivered.
        namespace: the namespace of the objects; None for all.
    """

    def __init__(self, client: ApiClient, source: Source, namespace: str | None) -> None:
        self._client = client
        self._source = source
        self._namespace = namespace
        self._version = ""
        self._listed = asyncio.Event()
        self.lost = 0
        """How often events may have been missed. After that no event is delivered until the next `read`."""

    async def read(self) -> tuple[set[str], int]:
        """List and deliver all objects; return their uids and the resource version of the list.

        Raises:
            ApiError, ApiUnreachable: the list failed.
        """
        uids, version = await self._source.read(self._client, self._namespace)
        if not self._listed.is_set():
            self._version = str(version)
            self._listed.set()
        return uids, version

    async def follow(self) -> None:
        """Deliver every event since the first `read`, until cancelled."""
        failures = 0
        while True:
            await self._listed.wait()
            before = self._version
            try:
                await self._watch()
                failures = 0
            except (ApiError, ApiUnreachable) as error:
                failures = failures + 1 if self._version == before else 1
                if isinstance(error, ApiError) and (error.status == 410 or failures >= MAX_FAILED_RESUMES):
                    logger.warning("relisting %s: %s", self._source.resource.plural, error)
                    self._listed.clear()
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
