"""The view of a Lease that serves as a lock."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncflow.api import names
from asyncflow.api.meta import parse_time
from asyncflow.core.views.fields import number, optional_time


@dataclass(frozen=True, slots=True)
class LockView:
    """The Lease of a lockKey: as long as it exists, its holder has the key."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    holder: str
    """Task uid, run, stage and attempt, as returned by `AttemptId.holder`."""
    acquired: datetime

    @property
    def task_uid(self) -> str:
        """The uid of the task whose attempt holds it."""
        return self.holder.partition("/")[0]

    @property
    def attempt_number(self) -> int:
        """The number of the attempt that holds it."""
        return number(self.holder.rpartition("/")[2])

    @property
    def token(self) -> int:
        """The fencing token: the resource version of the Lease. The operator never updates a lock's Lease."""
        return int(self.resource_version)


def lock_view(body: dict[str, Any]) -> LockView | None:
    """Read a Lease; return None if it is not a lock of asyncflow, or is being deleted."""
    meta, spec = body["metadata"], body.get("spec") or {}
    if names.LOCK_LABEL not in (meta.get("labels") or {}) or "deletionTimestamp" in meta:
        return None
    return LockView(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        holder=spec.get("holderIdentity") or "",
        acquired=optional_time(spec.get("acquireTime")) or parse_time(meta["creationTimestamp"]),
    )
