"""Tables of API objects, updated from lists, watch events and responses, in any order."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

TOMBSTONES_KEPT = 10_000
"""How many uids of deleted objects are remembered."""


class Table(Generic[T]):
    """Objects of one resource by uid, each with its resource version."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, T]] = {}
        self._tombstones: dict[str, None] = {}
        self._complete_at = 0
        """The version of the last complete list: objects up to it that are not stored were deleted."""

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, uid: str) -> T | None:
        """Return an object, if it is stored."""
        row = self._rows.get(uid)
        return row[1] if row else None

    def version(self, uid: str) -> int:
        """Return the version of an object; 0 if it is not stored."""
        row = self._rows.get(uid)
        return row[0] if row else 0

    def values(self) -> Iterable[T]:
        """Return all objects."""
        return (value for _, value in self._rows.values())

    def __contains__(self, uid: str) -> bool:
        return uid in self._rows

    def is_newer(self, uid: str, version: int) -> bool:
        """Return whether this version is newer than what is known of the object; most updates are not."""
        row = self._rows.get(uid)
        return uid not in self._tombstones and version > (row[0] if row is not None else self._complete_at)

    def put(self, uid: str, version: int, value: T) -> bool:
        """Store an object if it is newer than what is known of it; return whether it was."""
        if not self.is_newer(uid, version):
            return False
        self._rows[uid] = (version, value)
        return True

    def update(self, uid: str, value: T) -> None:
        """Replace a stored object without a change of its version."""
        self._rows[uid] = (self._rows[uid][0], value)

    def drop(self, uid: str) -> T | None:
        """Remove a deleted object; return it, if it was stored. A uid is never reused."""
        self._tombstones[uid] = None
        if len(self._tombstones) > TOMBSTONES_KEPT:
            del self._tombstones[next(iter(self._tombstones))]
        row = self._rows.pop(uid, None)
        return row[1] if row else None

    def compare(self, uids: set[str], version: int) -> list[str]:
        """Record a complete list; return the uids of stored objects that are missing in it."""
        self._complete_at = max(self._complete_at, version)
        return [uid for uid, (stored, _) in self._rows.items() if uid not in uids and stored <= version]


class SerializedTable(Generic[T]):
    """Objects of a resource with tens of thousands of objects: stored serialized, with an LRU cache.

    Args:
        deserialize: returns the object of a text.
        cached: how many objects the cache holds, at most.
    """

    def __init__(self, deserialize: Callable[[bytes], T], *, cached: int) -> None:
        self._deserialize = deserialize
        self._cache_size = cached
        self._cached: dict[str, T] = {}
        self._texts: Table[bytes] = Table()

    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, uid: str) -> bool:
        return uid in self._texts

    def get(self, uid: str) -> T | None:
        """Return an object, if it is stored."""
        value = self._cached.pop(uid, None)
        if value is None:
            text = self._texts.get(uid)
            if text is None:
                return None
            value = self._deserialize(text)
        self._cache(uid, value)
        return value

    def version(self, uid: str) -> int:
        """Return the version of an object; 0 if it is not stored."""
        return self._texts.version(uid)

    def is_newer(self, uid: str, version: int) -> bool:
        """Return whether this version is newer than what is known of the object."""
        return self._texts.is_newer(uid, version)

    def put(self, uid: str, version: int, text: bytes, value: T) -> bool:
        """Store an object and its text if it is newer than what is known of it; return whether it was."""
        if not self._texts.put(uid, version, text):
            return False
        self._cached.pop(uid, None)
        self._cache(uid, value)
        return True

    def drop(self, uid: str) -> T | None:
        """Remove a deleted object; return it, if it was stored."""
        value = self.get(uid)
        self._cached.pop(uid, None)
        self._texts.drop(uid)
        return value

    def compare(self, uids: set[str], version: int) -> list[str]:
        """Record a complete list; return the uids of stored objects that are missing in it."""
        return self._texts.compare(uids, version)

    def _cache(self, uid: str, value: T) -> None:
        self._cached[uid] = value
        if len(self._cached) > self._cache_size:
            del self._cached[next(iter(self._cached))]
