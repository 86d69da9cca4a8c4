"""Breaks the code on purpose, one way at a time, and sees that a test fails for each.

A break that no test notices, or that no longer fits the code, fails the run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).parents[2]
COPIED = (
    "operator",
    "crds",
    "deploy",
    "docs",
    "tests",
    "hack",
    "examples",
    "Dockerfile",
    "README.md",
    "pyproject.toml",
    "requirements.lock",
)
LIMIT_SECONDS = {"unit": 120, "integration": 400, "e2e": 900}
FAILED = 1
"""pytest's exit code when tests ran and some failed: an error in the set-up is no verdict."""


@dataclass(frozen=True)
class Mutant:
    """One break, and the test that has to notice it."""

    name: str
    clause: str
    file: str
    old: str
    new: str
    test: str
    level: str = "unit"


def main(
    short: Annotated[bool, typer.Option("--short", help="Only those that unit tests notice.")] = False,
    only: Annotated[str, typer.Option(help="Only those with this in their name.")] = "",
) -> None:
    """Try every mutant; exit with 1 unless each is noticed."""
    mutants = [
        Mutant(**entry)
        for entry in tomllib.loads((ROOT / "tests/mutants/mutants.toml").read_text())["mutant"]
    ]
    chosen = [m for m in mutants if only in m.name and not (short and m.level != "unit")]
    survivors = [mutant.name for mutant in chosen if not _noticed(mutant)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants were noticed")
    for name in survivors:
        print(f"not noticed: {name}")
    sys.exit(1 if survivors or not chosen else 0)


def _noticed(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory(prefix="asyncflow-mutant-") as directory:
        tree = Path(directory)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(
                    source, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis")
                )
            else:
                shutil.copy(source, tree / name)
        path = tree / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            print(
                f"✗ {mutant.name}: its place in {mutant.file} stands {text.count(mutant.old)} times, not once"
            )
            return False
        path.write_text(text.replace(mutant.old, mutant.new))
        return _test_fails(mutant, tree)


def _test_fails(mutant: Mutant, tree: Path) -> bool:
    began = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=line", *mutant.test.split()]
    command += ["--hypothesis-profile=find"] if mutant.level == "unit" else []
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS[mutant.level],
        )
    except subprocess.TimeoutExpired:
        print(f"✗ {mutant.name}: its test did not end")
        return False
    noticed = done.returncode == FAILED and " error" not in done.stdout.splitlines()[-1]
    mark = "✓" if noticed else "✗"
    print(f"{mark} {mutant.name} ({mutant.clause}): {time.monotonic() - began:.1f} s", flush=True)
    if not noticed:
        print(done.stdout[-2000:] + done.stderr[-2000:])
    return noticed


if __name__ == "__main__":
    typer.run(main)
