"""Parsers for single values of API objects: invalid values are ignored, none raises."""

from datetime import datetime
from typing import Any

import orjson

from asyncflow.api import names
from asyncflow.api.meta import parse_time


def task_uid(labels: dict[str, str]) -> str | None:
    """Return the uid of the task that an object belongs to; None if asyncflow does not manage the object."""
    managed = labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY
    return labels.get(names.TASK_UID_LABEL) if managed else None


def number(text: str | None) -> int:
    """Return a decimal number; 0 if it is missing or invalid."""
    return int(text) if text and text.isdecimal() else 0


def count(value: object) -> int:
    """Return a positive integer; 0 for anything else."""
    return value if isinstance(value, int) and value > 0 else 0


def json_object(text: str | None) -> dict[str, Any]:
    """Return the JSON object in an annotation; empty if it is missing or invalid."""
    try:
        found = orjson.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def optional_time(text: object) -> datetime | None:
    """Return a time in RFC 3339; None if it is missing or invalid."""
    try:
        return parse_time(text) if isinstance(text, str) and text else None
    except ValueError:
        return None
