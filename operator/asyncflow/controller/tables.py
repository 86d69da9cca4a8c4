"""Objects of one resource as they come in, from lists, watches and answers, in whatever order."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

TOMBSTONES_KEPT = 10_000


class Table(Generic[T]):
    """Objects of one resource by uid, each with the version it was seen in."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, T]] = {}
        self._tombstones: dict[str, None] = {}
        self._complete_at = 0
        """The version of the last complete list: what was there then and is not here was deleted since."""

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, uid: str) -> T | None:
        """Return the object, if it is there."""
        row = self._rows.get(uid)
        return row[1] if row else None

    def version(self, uid: str) -> int:
        """Return the version of an object; 0 if it is not there."""
        row = self._rows.get(uid)
        return row[0] if row else 0

    def values(self) -> Iterable[T]:
        """Return all objects."""
        return (value for _, value in self._rows.values())

    def __contains__(self, uid: str) -> bool:
        return uid in self._rows

    def is_news(self, uid: str, version: int) -> bool:
        """Tell whether this is newer than what is there: most of what comes in has been seen before."""
        row = self._rows.get(uid)
        return uid not in self._tombstones and version > (row[0] if row is not None else self._complete_at)

    def put(self, uid: str, version: int, value: T) -> bool:
        """Keep an object if it is newer than what is there; tell whether it was."""
        if not self.is_news(uid, version):
            return False
        self._rows[uid] = (version, value)
        return True

    def amend(self, uid: str, value: T) -> None:
        """Put more that is known of an object into what is there."""
        self._rows[uid] = (self._rows[uid][0], value)

    def drop(self, uid: str) -> T | None:
        """Forget an object for good: a uid never comes back."""
        self._tombstones[uid] = None
        if len(self._tombstones) > TOMBSTONES_KEPT:
            del self._tombstones[next(iter(self._tombstones))]
        row = self._rows.pop(uid, None)
        return row[1] if row else None

    def compare(self, uids: set[str], version: int) -> list[str]:
        """Note a complete list; return the uids of objects that it should show and does not."""
        self._complete_at = max(self._complete_at, version)
        return [uid for uid, (seen, _) in self._rows.items() if uid not in uids and seen <= version]


class SerializedTable(Generic[T]):
    """Objects of a resource that comes in tens of thousands: kept as text, but for those that were used last.

    Args:
        deserialize: reads an object's text.
        cached: how many are kept as objects, too.
    """

    def __init__(self, deserialize: Callable[[bytes], T], *, cached: int) -> None:
        self._deserialize = deserialize
        self._most_cached = cached
        self._cached: dict[str, T] = {}
        self._texts: Table[bytes] = Table()

    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, uid: str) -> bool:
        return uid in self._texts

    def get(self, uid: str) -> T | None:
        """Return the object, if it is there."""
        value = self._cached.pop(uid, None)
        if value is None:
            text = self._texts.get(uid)
            if text is None:
                return None
            value = self._deserialize(text)
        self._cache(uid, value)
        return value

    def version(self, uid: str) -> int:
        """Return the version of an object; 0 if it is not there."""
        return self._texts.version(uid)

    def is_news(self, uid: str, version: int) -> bool:
        """Tell whether this is newer than what is there."""
        return self._texts.is_news(uid, version)

    def put(self, uid: str, version: int, text: bytes, value: T) -> bool:
        """Keep an object, whose text this is, if it is newer than what is there; tell whether it was."""
        if not self._texts.put(uid, version, text):
            return False
        self._cached.pop(uid, None)
        self._cache(uid, value)
        return True

    def drop(self, uid: str) -> T | None:
        """Forget an object for good; return it if it was there."""
        value = self.get(uid)
        self._cached.pop(uid, None)
        self._texts.drop(uid)
        return value

    def compare(self, uids: set[str], version: int) -> list[str]:
        """Note a complete list; return the uids of objects that it should show and does not."""
        return self._texts.compare(uids, version)

    def _cache(self, uid: str, value: T) -> None:
        self._cached[uid] = value
        if len(self._cached) > self._most_cached:
            del self._cached[next(iter(self._cached))]
