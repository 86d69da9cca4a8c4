"""Objects in memory, with the semantics of the API server.

They are those of the documentation ("Kubernetes API Concepts") and of ``registry/generic/registry/store.go``
in k8s.io/apiserver. Nothing is validated that the tests do not need, nothing is authorized.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import orjson

from asyncflow.api.meta import format_time
from asyncflow.controller.clock import utc_now
from asyncflow.kube.client import (
    CORE_EVENTS,
    JOBS,
    LEASES,
    NODES,
    PODS,
    TASKS,
    TYPES,
    ApiError,
    Body,
    Listing,
    Resource,
)
from support.selectors import Matcher, matcher

Propagation = Literal["Background", "Foreground"]
Event = tuple[str, Body]
"""What a watch tells: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``, and the object."""

RESOURCES = (TASKS, TYPES, JOBS, PODS, NODES, CORE_EVENTS, LEASES)
FIRST_VERSION = 100
WITH_GENERATION = (TASKS, TYPES, JOBS, PODS)
WITH_STATUS = (TASKS, TYPES, JOBS, PODS, NODES)
CREATED_STATUS: dict[Resource, Body | None] = {TASKS: None, TYPES: None, JOBS: {}, PODS: {"phase": "Pending"}}
"""The status of a new object, whatever its creator writes; that of other resources is kept as written."""
ENDED = ("Failed", "Succeeded")
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
"""The finalizers that the propagation policy of a deletion sets and removes."""
GRACE_SECONDS = 30
"""The grace period of a pod that names none."""
SYSTEM_FIELDS = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
"""Metadata that only the API server writes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One version of one object: what it was, and what it is now."""

    version: int
    resource: Resource
    before: Body | None
    after: Body
    """As it is now; of an object that was removed, its last state."""
    removed: bool


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """Who is told of changes, and of which."""

    tell: Callable[[str, Body], None]
    resource: Resource
    namespace: str | None
    matches: Matcher

    def event(self, change: Change) -> Event | None:
        """Return what this one is told of a change; None if it does not concern it.

        An object that begins to match is told as added, one that ceases to match as deleted, in its last
        state that matched (``cacheWatcher`` of k8s.io/apiserver does so).
        """
        if change.resource != self.resource:
            return None
        after = change.after
        if self.namespace is not None and after["metadata"].get("namespace") != self.namespace:
            return None
        before = change.before if change.before is not None and self.matches(change.before) else None
        if not change.removed and self.matches(after):
            return ("ADDED" if before is None else "MODIFIED"), copied(after)
        if before is None:
            return None
        last = copied(after if change.removed else before)
        last["metadata"]["resourceVersion"] = str(change.version)
        return "DELETED", last


class ObjectStore:
    """Objects by resource, namespace and name; all their changes have one order, the resource versions.

    Args:
        clock: the time, with its zone, of the timestamps that the API server sets.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self.version = FIRST_VERSION
        """The newest resource version."""
        self._clock = clock
        self._objects: dict[Resource, dict[str, dict[str, Body]]] = {
            resource: defaultdict(dict) for resource in RESOURCES
        }
        self._history: list[Change] = []
        self._compacted = FIRST_VERSION
        self._subscriptions: list[Subscription] = []

    # What is there

    def objects(self, resource: Resource, namespace: str | None) -> Mapping[str, Body]:
        """Return the objects of a resource by name: a view that follows all changes, and is read only."""
        return self._objects[resource][namespace or ""]

    def load(self, resource: Resource, *bodies: Body) -> None:
        """Put objects there that have been there for long, each with its uid and resource version."""
        for body in bodies:
            meta = body["metadata"]
            self.version = max(self.version, int(meta["resourceVersion"]))
            self._objects[resource][meta.get("namespace", "")][meta["name"]] = copied(body)

    def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        """Return an object."""
        return copied(self._existing(resource, namespace, name))

    def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> Listing:
        """Return the objects that match, of a namespace or of all, in the order of their names."""
        matches = matcher(resource, labels, fields)
        collections = self._objects[resource]
        names = sorted(collections) if namespace is None else [namespace]
        found = (body for key in names for _, body in sorted(collections[key].items()))
        return Listing([copied(body) for body in found if matches(body)], str(self.version))

    # Writes

    def create(self, resource: Resource, namespace: str | None, body: Body, *, dry_run: bool = False) -> Body:
        """Create an object.

        Raises:
            ApiError: there is one of that name (409), or it has none (422), among others.
        """
        made = copied(body)
        meta = made.setdefault("metadata", {})
        name = meta.get("name")
        if not name:
            raise ApiError(422, "Invalid", "metadata.name: Required value: name or generateName is required")
        if meta.get("resourceVersion"):
            raise ApiError(500, "InternalError", "resourceVersion should not be set on objects to be created")
        self._check_address(meta, namespace, name)
        if namespace is not None:
            meta["namespace"] = namespace
        if name in self._objects[resource][namespace or ""]:
            raise ApiError(409, "AlreadyExists", f'{_qualified(resource)} "{name}" already exists')
        for system_field in SYSTEM_FIELDS:
            meta.pop(system_field, None)
        meta["uid"] = f"{resource.plural}-{self.version + 1}"
        meta["creationTimestamp"] = format_time(self._clock())
        if resource in WITH_GENERATION:
            meta["generation"] = 1
        if resource in CREATED_STATUS:
            made.pop("status", None)
            status = CREATED_STATUS[resource]
            made |= {} if status is None else {"status": dict(status)}
        return made if dry_run else self._commit(resource, None, made)

    def update(self, resource: Resource, namespace: str | None, name: str, body: Body) -> Body:
        """Replace an object by what was made of the version of it that the body names.

        Raises:
            ApiError: it has changed since (409), or is gone (404).
        """
        old = self._existing(resource, namespace, name)
        meta = body["metadata"]
        if not meta.get("resourceVersion"):
            raise ApiError(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
        self._check_address(meta, namespace, name)
        self._check(resource, old, meta.get("uid"), meta["resourceVersion"])
        return self._update(resource, old, copied(body))

    def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Body,
        *,
        subresource: str | None = None,
    ) -> Body:
        """Change fields of an object (JSON merge patch, RFC 7396). One that changes nothing makes no version.

        Raises:
            ApiError: it is not the one, or not in the version, that the patch names (409), or is gone (404).
        """
        old = self._existing(resource, namespace, name)
        meta = body.get("metadata") or {}
        self._check_address(meta, namespace, name)
        self._check(resource, old, meta.get("uid"), meta.get("resourceVersion"))
        new = copied(old)
        merge(new, copied(body))
        return self._update(resource, old, new, subresource)

    def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        version: str | None = None,
        propagation: Propagation | None = None,
        grace_seconds: int | None = None,
    ) -> Body:
        """Delete an object. It stays, being deleted, while it has finalizers or a node has still to end it.

        Args:
            resource: of what it is.
            namespace: where it is.
            name: its name.
            uid: delete the one of this uid only.
            version: delete it in this version only.
            propagation: what becomes of its dependents; overrides the finalizers that say so.
            grace_seconds: of a pod, how long it may take; its own grace period by default.

        Raises:
            ApiError: it is not the one, or not in the version, that was named (409), or is gone (404).
        """
        old = self._existing(resource, namespace, name)
        self._check(resource, old, uid, version)
        new = copied(old)
        meta = new["metadata"]
        deleting = "deletionTimestamp" in meta
        grace = 0
        if resource == PODS:
            grace = _grace_seconds(old, grace_seconds)
            if deleting and grace >= meta["deletionGracePeriodSeconds"]:
                return new
        if propagation is not None:
            kept = [text for text in meta.get("finalizers", ()) if text not in (FOREGROUND, ORPHAN)]
            meta["finalizers"] = kept + ([FOREGROUND] if propagation == "Foreground" else [])
        if not deleting and resource in WITH_GENERATION:
            meta["generation"] = meta.get("generation", 0) + 1
        if not deleting or resource == PODS:
            meta["deletionTimestamp"] = format_time(self._clock() + timedelta(seconds=grace))
        meta["deletionGracePeriodSeconds"] = grace
        if not meta.get("finalizers") and not grace:
            return self._commit(resource, old, new, removed=True)
        return new if new == old else self._commit(resource, old, new)

    def _existing(self, resource: Resource, namespace: str | None, name: str) -> Body:
        found = self._objects[resource][namespace or ""].get(name)
        if found is None:
            raise ApiError(404, "NotFound", f'{_qualified(resource)} "{name}" not found')
        return found

    def _check_address(self, meta: Body, namespace: str | None, name: str) -> None:
        if meta.get("name", name) != name:
            raise ApiError(
                400, "BadRequest", f"the name of the object ({meta['name']}) is not that of the URL"
            )
        if namespace is not None and meta.get("namespace", namespace) != namespace:
            raise ApiError(400, "BadRequest", "the namespace of the object is not that of the request")

    def _check(self, resource: Resource, old: Body, uid: str | None, version: str | None) -> None:
        meta = old["metadata"]
        for what, wanted, there in (
            ("UID", uid, meta["uid"]),
            ("resource version", version, meta["resourceVersion"]),
        ):
            if wanted not in (None, there):
                cause = f"the {what} in the precondition ({wanted}) is not that of the object ({there})"
                where = f'Operation cannot be fulfilled on {_qualified(resource)} "{meta["name"]}"'
                raise ApiError(409, "Conflict", f"{where}: {cause}")

    def _update(self, resource: Resource, old: Body, new: Body, subresource: str | None = None) -> Body:
        """Write what is to be in the place of an object, as far as a user may change it."""
        before = old["metadata"]
        if subresource == "status":
            if resource not in WITH_STATUS:
                raise ApiError(404, "NotFound", "the server could not find the requested resource")
            new = {**old, "metadata": {**before}, "status": new.get("status", {})}
        elif resource in WITH_STATUS:
            new.pop("status", None)
            new |= {"status": old["status"]} if "status" in old else {}
        meta = new["metadata"]
        for system_field in SYSTEM_FIELDS:
            meta.pop(system_field, None)
        meta |= {field: before[field] for field in SYSTEM_FIELDS if field in before}
        if new == old:
            return copied(old)
        if resource in WITH_GENERATION and _content(new) != _content(old):
            meta["generation"] = meta.get("generation", 0) + 1
        may_go = "deletionTimestamp" in meta and not meta["deletionGracePeriodSeconds"]
        return self._commit(resource, old, new, removed=may_go and not meta.get("finalizers"))

    def _commit(self, resource: Resource, old: Body | None, new: Body, *, removed: bool = False) -> Body:
        """Give an object its new version, and tell whoever follows it."""
        self.version += 1
        meta = new["metadata"]
        meta["resourceVersion"] = str(self.version)
        if not meta.get("finalizers", True):
            del meta["finalizers"]
        collection = self._objects[resource][meta.get("namespace", "")]
        if removed:
            del collection[meta["name"]]
        else:
            collection[meta["name"]] = new
        change = Change(self.version, resource, old, new, removed)
        self._history.append(change)
        for subscription in self._subscriptions:
            if (event := subscription.event(change)) is not None:
                subscription.tell(*event)
        return copied(new)

    # Who follows

    def subscribe(self, subscription: Subscription) -> Callable[[], None]:
        """Have somebody told of all changes from now on; return what ends that."""
        self._subscriptions.append(subscription)
        return lambda: self._subscriptions.remove(subscription)

    def replay(self, subscription: Subscription, since: int) -> None:
        """Tell a subscriber of all changes after a version.

        Raises:
            ApiError: they are not remembered (410).
        """
        if since < self._compacted:
            raise ApiError(410, "Expired", f"too old resource version: {since} ({self._compacted})")
        for change in self._history:
            if change.version > since and (event := subscription.event(change)) is not None:
                subscription.tell(*event)

    def compact(self) -> None:
        """Forget what was before now: a watch that begins earlier has to list again (410)."""
        self._compacted = self.version
        self._history.clear()


def copied(body: Body) -> Body:
    """Return a copy of an object, as another reader gets it over the wire."""
    copy: Body = orjson.loads(orjson.dumps(body))
    return copy


def merge(target: Body, patch: Body) -> None:
    """Apply a JSON merge patch (RFC 7396) in place."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            there = target.get(key)
            if not isinstance(there, dict):
                there = target[key] = {}
            merge(there, value)
        else:
            target[key] = value


def _qualified(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _content(body: Body) -> Body:
    """Return what a generation counts the changes of."""
    return {key: value for key, value in body.items() if key not in ("metadata", "status")}


def _grace_seconds(pod: Body, asked: int | None) -> int:
    """Return how long a pod's deletion may take, in seconds (``CheckGracefulDelete`` of pods does so)."""
    pending: int | None = pod["metadata"].get("deletionGracePeriodSeconds")
    if pending is not None:
        return pending if asked is None else asked
    if not pod["spec"].get("nodeName") or pod["status"].get("phase") in ENDED:
        return 0
    own: int = pod["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS)
    return own if asked is None else asked
