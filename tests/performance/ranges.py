"""The accepted range of each figure, as ``ranges.toml`` has it, and what is out of it."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("ranges.toml")


@dataclass(frozen=True)
class Range:
    """The accepted values of one figure, both bounds included."""

    min: float = -math.inf
    max: float = math.inf
    by: str | None = None
    """Which value of several runs is compared: min, median or max; None: that of each run."""

    def __str__(self) -> str:
        if self.min == self.max:
            return f"{self.min:g}"
        bounds = (("at least", self.min), ("at most", self.max))
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if math.isfinite(bound))

    @classmethod
    def of(cls, entry: float | dict[str, Any]) -> "Range":
        """Return what an entry of the file means."""
        return cls(**entry) if isinstance(entry, dict) else cls(entry, entry)

    def has(self, figure: float | Mapping[str, float]) -> bool:
        """Tell whether a figure is accepted: a number, or minimum, median and maximum of several runs."""
        if not isinstance(figure, Mapping):
            return self.min <= figure <= self.max
        lowest, highest = (self.by, self.by) if self.by else ("min", "max")
        return self.min <= figure[lowest] and figure[highest] <= self.max


def ranges(form: str) -> dict[str, Range]:
    """Return the accepted ranges of a form, which is a table of the file, by the figure's name."""
    entries: dict[str, Any] = tomllib.loads(FILE.read_text())[form]
    return {name: Range.of(entry) for name, entry in entries.items()}


def out_of_range(form: str, figures: Mapping[str, Any], *, partial: bool = False) -> list[str]:
    """Return which figures are not accepted, a line each.

    Args:
        form: the table of ``ranges.toml``.
        figures: the figures by name; those without a range are accepted as they are.
        partial: only some were measured; else one that is missing is not accepted either.
    """
    found = []
    for name, accepted in ranges(form).items():
        if name not in figures:
            found += [] if partial else [f"{name} was not measured"]
        elif not accepted.has(figures[name]):
            found.append(f"{name} is {figures[name]}, accepted is {accepted}")
    return found
