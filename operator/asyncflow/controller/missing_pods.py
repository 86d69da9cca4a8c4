"""Why Jobs have no pod: their events tell, and all of a namespace are read at once.

The API server keeps events in no cache and filters them one by one: to read those of one Job costs as much as
to read those of all. So they are read together, and the more seldom the longer that takes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from asyncflow.api import reasons
from asyncflow.kube.client import CORE_EVENTS, ApiClient, Body

KNOWN_FOR = timedelta(seconds=5)
"""How long what was read serves other Jobs, at least; and fifty times what reading took."""
NO_POD = "involvedObject.kind=Job,reason=FailedCreate"


@dataclass(slots=True)
class _Known:
    """What the events of one namespace said last, by the uid of the Job."""

    messages: dict[str, str] = field(default_factory=dict)
    until: datetime | None = None


class Explainer:
    """Finds out what keeps Jobs from having pods."""

    def __init__(self, client: ApiClient, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock
        self._namespaces: dict[str, _Known] = {}

    async def explain(self, namespace: str, job_uid: str) -> tuple[str, str]:
        """Return reason and message of why a Job has no pod.

        Raises:
            ApiError, ApiUnreachable: the events could not be read.
        """
        known = self._namespaces.setdefault(namespace, _Known())
        began = self._clock()
        if known.until is None or began >= known.until:
            known.until = began + KNOWN_FOR  # whoever asks meanwhile is told what was known
            known.messages = await self._read(namespace)
            now = self._clock()
            known.until = now + max(KNOWN_FOR, 50 * (now - began))
        message = known.messages.get(job_uid)
        if message is None:
            return reasons.JOB_CONTROLLER_BACKLOG, "the Job controller has not created the pod yet"
        return (reasons.QUOTA_EXCEEDED if "exceeded quota" in message else reasons.POD_NOT_CREATED), message

    async def _read(self, namespace: str) -> dict[str, str]:
        newest: dict[str, tuple[str, str]] = {}
        async for part in self._client.parts(CORE_EVENTS, namespace, fields=NO_POD):
            for event in part.items:
                uid = event["involvedObject"].get("uid", "")
                newest[uid] = max(newest.get(uid, ("", "")), (_time(event), event.get("message", "")))
        return {uid: message for uid, (_, message) in newest.items()}


def _time(event: Body) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or ""
