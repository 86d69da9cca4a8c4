"""Posts Kubernetes events, which ``kubectl describe`` shows, without blocking reconciliation."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import Any

from asyncflow.api import names
from asyncflow.api.meta import ObjectMeta, format_time
from asyncflow.kube.client import CORE_EVENTS, ApiClient, ApiError, ApiUnreachable, NotLeading

logger = logging.getLogger(__name__)

BACKLOG = 1000
"""Maximum number of queued events; further ones are dropped. Conditions, not events, are the record."""


class EventRecorder:
    """Posts events in the background, one at a time.

    Args:
        client: the API client.
        clock: the current time, with its time zone.
    """

    def __init__(self, client: ApiClient, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock
        self._backlog: asyncio.Queue[dict[str, Any]] = asyncio.Queue(BACKLOG)
        self._host = os.environ.get("POD_NAME") or socket.gethostname()

    def post(
        self, kind: str, meta: ObjectMeta, reason: str, message: str, *, warning: bool, occasion: str = ""
    ) -> None:
        """Queue an event on an object.

        Args:
            kind: the kind of the object.
            meta: its metadata.
            reason: the reason of the event.
            message: its message; cut to 1024 characters.
            warning: whether its type is Warning; else Normal.
            occasion: distinguishes it from an earlier event with the same reason and message, which would
                otherwise not be created again.
        """
        now = format_time(self._clock())
        # A deterministic name: an event that is posted again after a restart exists already.
        digest = blake2b(f"{meta.uid}/{reason}/{message}{occasion}".encode(), digest_size=8).hexdigest()
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{meta.name}.{digest}", "namespace": meta.namespace},
            "involvedObject": {
                "apiVersion": names.API_VERSION,
                "kind": kind,
                "name": meta.name,
                "namespace": meta.namespace,
                "uid": meta.uid,
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message[:1024],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": names.MANAGED_BY},
            "reportingComponent": f"{names.GROUP}/operator",
            "reportingInstance": self._host,
        }
        try:
            self._backlog.put_nowait(event)
        except asyncio.QueueFull:
            logger.warning(
                "event queue is full, dropping event %s on %s/%s", reason, meta.namespace, meta.name
            )

    async def run(self) -> None:
        """Post queued events until cancelled. An event that cannot be posted is logged and dropped."""
        while True:
            event = await self._backlog.get()
            try:
                await self._client.create(CORE_EVENTS, event["metadata"]["namespace"], event)
            except NotLeading:
                logger.debug("not leading, dropping event %s", event["metadata"]["name"])
            except (ApiError, ApiUnreachable) as error:
                if not (isinstance(error, ApiError) and error.already_exists):
                    logger.warning("failed to post event %s: %s", event["metadata"]["name"], error)
