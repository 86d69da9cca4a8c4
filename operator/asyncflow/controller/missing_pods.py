"""Finds out from Kubernetes events why Jobs have no pod.

The API server does not cache events and filters them one by one: listing those of one Job costs as much as
listing those of all. So the events of a namespace are listed together, less often the longer that takes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.kube.client import CORE_EVENTS, ApiClient, Body

EVENTS_MAX_AGE = timedelta(seconds=5)
"""How long listed events are reused, at least; it is at least 50 times as long as listing them took."""
FAILED_CREATE_EVENTS = "involvedObject.kind=Job,reason=FailedCreate"


@dataclass(slots=True)
class _Cached:
    """The last events of one namespace."""

    messages: dict[str, str] = field(default_factory=dict)
    """By the uid of the Job."""
    until: datetime | None = None
    """When the events are listed again."""


class Explainer:
    """Explains why Jobs have no pod."""

    def __init__(self, client: ApiClient, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock
        self._namespaces: dict[str, _Cached] = {}

    async def explain(self, namespace: str, job_uid: str) -> tuple[str, str]:
        """Return why a Job has no pod, as reason and message.

        Raises:
            ApiError, ApiUnreachable: the events could not be listed.
        """
        cached = self._namespaces.setdefault(namespace, _Cached())
        start = self._clock()
        if cached.until is None or start >= cached.until:
            cached.until = start + EVENTS_MAX_AGE  # concurrent calls use the previous events
            cached.messages = await self._list(namespace)
            now = self._clock()
            cached.until = now + max(EVENTS_MAX_AGE, 50 * (now - start))
        message = cached.messages.get(job_uid)
        if message is None:
            return reasons.JOB_CONTROLLER_BACKLOG, "the Job controller has not created the pod yet"
        return (reasons.QUOTA_EXCEEDED if "exceeded quota" in message else reasons.POD_NOT_CREATED), message

    async def _list(self, namespace: str) -> dict[str, str]:
        newest: dict[str, tuple[str, str]] = {}
        async for part in self._client.parts(CORE_EVENTS, namespace, fields=FAILED_CREATE_EVENTS):
            for event in part.items:
                uid = event["involvedObject"].get("uid", "")
                newest[uid] = max(newest.get(uid, ("", "")), (_time(event), event.get("message", "")))
        return {uid: message for uid, (_, message) in newest.items()}


def _time(event: Body) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or ""
