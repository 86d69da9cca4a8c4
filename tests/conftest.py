"""What holds for every level: an interrupted run cleans up, and a failure says where the logs are.

hypothesis makes the same examples in each run, unless ``--hypothesis-profile=search`` (``make faults``) asks
it to look for new ones.
"""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=100)
settings.register_profile(
    "search", deadline=None, max_examples=5000, suppress_health_check=list(HealthCheck), print_blob=True
)
settings.register_profile(  # a break need only be found, not made small
    "find", derandomize=True, deadline=None, max_examples=100, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("repeatable")

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
