"""Reading single values of API objects, whatever stands in them."""

from datetime import datetime
from typing import Any

import orjson

from asyncflow.api import names
from asyncflow.api.meta import parse_time


def task_uid(labels: dict[str, str]) -> str | None:
    """Return whose attempt an object belongs to; None if it is not ours."""
    ours = labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY
    return labels.get(names.TASK_UID_LABEL) if ours else None


def number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def record(text: str | None) -> dict[str, Any]:
    """Return what an annotation holds as JSON; nothing, if somebody has put other text there."""
    try:
        found = orjson.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def moment(text: object) -> datetime | None:
    try:
        return parse_time(text) if isinstance(text, str) and text else None
    except ValueError:
        return None
