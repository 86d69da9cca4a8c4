"""Words that no text of the product uses: one word for one thing, in Kubernetes' own terms."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = sorted(
    [
        *(ROOT / "operator").rglob("*.py"),
        *(ROOT / "crds").glob("*.yaml"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
    ]
)
NOT = re.compile(
    r"\b(anew|lest|reckon\w*|heed\w*|mend(s|ed|ing)?|vouch\w*|obstacle\w*|hind(er|rance)\w*|sweeper\w*|"
    r"graves?|time-outs?|back-off|tells? of|under way|by all accounts|bears? witness|(its|their) say|"
    r"behaviour|colours?|recognise\w*|your word|administrator's word|at hand|passed over|held up|intruder)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_not_to_use(path: Path) -> None:
    text = path.read_text()
    found = {f"line {text.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in NOT.finditer(text)}
    assert not found, f"{path.relative_to(ROOT)}: {sorted(found)}"
