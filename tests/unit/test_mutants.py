"""The list of mutants: each breaks a clause of the guarantees, in code and tests that exist."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MUTANTS = tomllib.loads((ROOT / "tests/mutants/mutants.toml").read_text())["mutant"]
CLAUSES = set(re.findall(r"^- \*\*(P\d\.\d+)\*\*", (ROOT / "docs/promises.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m["name"])
def test_a_mutant_fits_the_code_and_names_a_clause(mutant: dict[str, Any]) -> None:
    assert (ROOT / mutant["file"]).read_text().count(mutant["old"]) == 1
    assert mutant["clause"] in CLAUSES | {"other"}
    path, _, test = mutant["test"].split()[0].partition("::")
    assert test.split("::")[-1].split("[")[0] in (ROOT / path).read_text()


def test_each_clause_has_a_mutant() -> None:
    without = CLAUSES - {mutant["clause"] for mutant in MUTANTS}
    assert not without
