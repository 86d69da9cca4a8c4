"""What a run is judged by: nothing here asks the operator."""

from collections.abc import Iterable, Sequence

from performance.scale.workload import TASK_TYPE, Workload
from support.admin_api import Body

Place = tuple[int, str, str]


def place(task: Body) -> Place:
    """Return a task's place in the order: by priority, then by creation."""
    meta = task["metadata"]
    return -task["spec"].get("priority", 0), meta["creationTimestamp"], meta["name"]


def order_violations(tasks: Iterable[Body], first_starts: Sequence[tuple[str, int]]) -> int:
    """Count the first attempts that began while a task with a better place was left waiting.

    All tasks were there before the first start. Creates that are in flight at the same time may arrive in any
    order, and there are as many as there are slots, at most: who comes after so many more was left waiting.

    Args:
        tasks: the tasks.
        first_starts: the tasks' names in the order in which their first Jobs were created, each with the
            limit of that time.
    """
    places = {task["metadata"]["name"]: place(task) for task in tasks}
    best_from: list[Place] = []
    best = max(places.values())
    for name, _ in reversed(first_starts):
        best = min(best, places[name])
        best_from.append(best)
    best_from.reverse()
    return sum(
        position + limit + 1 < len(best_from) and best_from[position + limit + 1] < places[name]
        for position, (name, limit) in enumerate(first_starts)
    )


def wrong_ends(workload: Workload, tasks: Iterable[Body]) -> list[str]:
    """Return what each task's record says that is not as it has to be."""
    found = {task["metadata"]["name"]: task["status"] for task in tasks}
    wrong = []
    for number in range(workload.tasks):
        status = found.get(workload.name(number))
        if status is None:
            wrong.append(f"{workload.name(number)} is lost")
            continue
        outcomes = tuple(attempt.get("outcome") for attempt in status.get("attempts", ()))
        if (status["phase"], outcomes) != workload.outcome(number):
            wrong.append(f"{workload.name(number)} is {status['phase']} after {outcomes}")
        elif not all(attempt.get("proofOfDeath") == "Node" for attempt in status["attempts"]):
            wrong.append(f"{workload.name(number)} has an attempt without proof of death")
    return wrong


def wrong_counts(workload: Workload, task_type: Body, tasks: Iterable[Body]) -> list[str]:
    """Return what the type's status says that is not as it has to be."""
    wrong, expected, status = [], workload.phases(), task_type["status"]
    counts = {phase.capitalize(): number for phase, number in status.get("counts", {}).items() if number}
    if counts != expected:
        wrong.append(f"{TASK_TYPE} counts {counts}, and there are {expected}")
    shards = [task["status"].get("shard") for task in tasks]
    begin, end = status["shards"]["begin"], status["shards"]["end"]
    if begin != end:
        wrong.append(f"all have ended, and shards {begin} to {end} are open")
    if not all(isinstance(shard, int) and 1 <= shard <= end for shard in shards):
        wrong.append("a task has no shard")
    return wrong
