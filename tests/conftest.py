"""What holds for every level: an interrupted run cleans up, and a failure says where the logs are."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BUILD = Path(__file__).parents[1] / "build"


@pytest.fixture(scope="session", autouse=True)
def _a_kill_is_an_interrupt() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: fixtures stop what they have started."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add to a failure what can be read about it and where."""
    outcome: Any = yield
    report = outcome.get_result()
    level = Path(str(item.path)).parent.name
    if report.failed and level in ("integration", "e2e"):
        collect = getattr(item.session, "collect_logs", None)
        where = collect(item) if collect else BUILD / level
        report.sections.append(("Logs", f"kept in {where}"))
