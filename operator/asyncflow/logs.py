"""Logging to stderr as text or as JSON lines with the task and attempt as fields."""

import logging
import sys
from typing import Any

import orjson

FIELDS = ("namespace", "task", "attempt", "key")


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        line: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(level: str, style: str) -> None:
    """Log to stderr.

    Args:
        level: the minimum level: debug, info, warning or error.
        style: ``json``, else text.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if style == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("kopf").setLevel(logging.WARNING)  # a line per event costs more than the event itself
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
