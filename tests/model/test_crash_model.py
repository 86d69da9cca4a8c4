"""Whatever dies and whenever: no two at once, nothing lost, budgets exact."""

import os
from typing import Any

import pytest

from model.explorer import Explorer

RUNS = int(os.environ.get("ASYNCFLOW_MODEL_RUNS", "120"))
"""How many histories; each has its seed, so that one that fails can be run again."""
MOVES = 400
SPECS: tuple[dict[str, Any], ...] = (
    {},
    {"retry": {"onDisruption": "Hold", "onUnknownOutcome": "Hold", "backoff": {"initialSeconds": 1}}},
)


@pytest.mark.parametrize("batch", range(4))
def test_the_promises_hold_in_every_history(batch: int) -> None:
    for seed in range(batch, RUNS, 4):
        Explorer(seed, SPECS[seed % 8 == 7]).run(MOVES)
