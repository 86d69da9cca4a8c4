"""Leases that are locks."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncflow.api import names
from asyncflow.api.meta import parse_time
from asyncflow.core.views.fields import moment, number


@dataclass(frozen=True, slots=True)
class LockView:
    """The Lease of a lockKey: as long as it is there, its holder has the key."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    holder: str
    """Task uid, run, stage and attempt, as `AttemptId.holder` makes it."""
    acquired: datetime

    @property
    def task_uid(self) -> str:
        """The task whose attempt holds it."""
        return self.holder.partition("/")[0]

    @property
    def attempt_number(self) -> int:
        """The number of the attempt that holds it."""
        return number(self.holder.rpartition("/")[2])

    @property
    def token(self) -> int:
        """The fencing token: the version that the API server gave the Lease when it was made."""
        return int(self.resource_version)


def lock_view(body: dict[str, Any]) -> LockView | None:
    """Read a Lease; return None for one that is not a lock of ours."""
    meta, spec = body["metadata"], body.get("spec") or {}
    if names.LOCK_LABEL not in (meta.get("labels") or {}) or "deletionTimestamp" in meta:
        return None
    return LockView(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        holder=spec.get("holderIdentity") or "",
        acquired=moment(spec.get("acquireTime")) or parse_time(meta["creationTimestamp"]),
    )
