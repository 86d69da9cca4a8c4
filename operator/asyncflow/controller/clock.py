"""The clock of the operator."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time, with its time zone."""
    return datetime.now(UTC)
