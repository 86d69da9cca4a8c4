"""Objects of one kind as they come in, from lists, watches and answers, in whatever order."""

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

GRAVES_KEPT = 10_000


class Table(Generic[T]):
    """Objects of one kind by uid, each with the version it was seen in."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, T]] = {}
        self._graves: dict[str, None] = {}
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

    def put(self, uid: str, version: int, value: T) -> bool:
        """Keep an object if it is newer than what is there; tell whether it was."""
        row = self._rows.get(uid)
        if uid in self._graves or version <= (row[0] if row is not None else self._complete_at):
            return False
        self._rows[uid] = (version, value)
        return True

    def amend(self, uid: str, value: T) -> None:
        """Put more that is known of an object into what is there."""
        self._rows[uid] = (self._rows[uid][0], value)

    def drop(self, uid: str) -> T | None:
        """Forget an object for good: a uid never comes back."""
        self._graves[uid] = None
        if len(self._graves) > GRAVES_KEPT:
            del self._graves[next(iter(self._graves))]
        row = self._rows.pop(uid, None)
        return row[1] if row else None

    def compare(self, uids: set[str], version: int) -> list[str]:
        """Note a complete list; return the uids of objects that it should show and does not."""
        self._complete_at = max(self._complete_at, version)
        return [uid for uid, (seen, _) in self._rows.items() if uid not in uids and seen <= version]
