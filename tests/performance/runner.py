"""Runs a measurement to its end, writes down what it found, and says whether that is accepted."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What a measurement found."""

    content: dict[str, Any]
    """What is written down."""
    shown: dict[str, Any]
    """What is printed of it."""
    invalid: Sequence[str] = ()
    """Why it is worth nothing: with that, it is not written down."""
    rejected: Sequence[str] = ()
    """What is not as it has to be, or is out of the accepted range."""


def run(measure: Callable[[], Coroutine[Any, Any, Outcome]], out: Path) -> None:
    """Measure, and write the outcome to a file; exit with 1 if it is invalid or rejected.

    Ctrl-C and SIGTERM end it in order: what it has started is stopped, and what it has measured is lost.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    finish(asyncio.run(measure()), out)


def finish(outcome: Outcome, out: Path) -> None:
    """Write the outcome to a file, and print it; exit with 1 if it is invalid or rejected."""
    print(json.dumps(outcome.shown, indent=1))
    if outcome.invalid:
        print("\n".join(outcome.invalid[:20]), "nothing is written", sep="\n")
        sys.exit(1)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(outcome.content, indent=1) + "\n")
    print(f"written to {out}")
    if outcome.rejected:
        print("\n".join(outcome.rejected))
        sys.exit(1)


def earlier(out: Path) -> dict[str, Any]:
    """Return what an earlier run wrote to a file; nothing if there is none."""
    content: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    return content
