"""The two runs of ``make scale``, and what is written down of them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from performance.scale.execution import Run, run_workload
from performance.scale.workload import Workload


async def measure_both(tasks: int, directory: Path) -> dict[str, Any]:
    """Run the tasks without stragglers, and with them and an operator that is killed three times.

    Returns:
        What is written down of both.
    """
    plain, straggling = Workload(tasks, stragglers=False), Workload(tasks)
    runs = [
        await run_workload("plain", plain, directory / "plain"),
        await run_workload("stragglers", straggling, directory / "stragglers", kills=3),
    ]
    return summary(tasks, *runs)


def summary(tasks: int, plain: Run, straggling: Run) -> dict[str, Any]:
    """Return what is written down of two runs of so many tasks."""
    runs = (plain, straggling)
    allowed = plain.seconds + straggling.straggler_seconds
    return {
        "tasks": tasks,
        "max_running": max(max(run.max_running.values()) for run in runs),
        "max_running_at_low_limit": max(run.max_running["low"] for run in runs),
        "order_violations": sum(run.order_violations for run in runs),
        "phases": straggling.phases,
        "makespan_ratio": round(straggling.seconds / allowed, 3),
        "tasks_per_second": round(tasks / straggling.seconds, 1),
        "kills": straggling.kills,
        "operator_memory_mib": straggling.memory_mib,
        "operator_cpu_ms_per_task": round(1000 * straggling.cpu_seconds / tasks, 2),
        "runs": [asdict(run) for run in runs],
    }
