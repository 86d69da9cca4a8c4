"""The time."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the moment, with its time zone."""
    return datetime.now(UTC)
