"""The tasks of a run: most succeed at once, one in a hundred hangs, one in fifty fails twice."""

import random
from collections import Counter
from dataclasses import dataclass

from performance.objects import task_body, task_type_body
from support.admin_api import Body

TASK_TYPE = "scale"
ATTEMPT_SECONDS = 10
"""A task that hangs holds its slot so long."""

TEMPLATE = {"spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "none"}]}}


@dataclass(frozen=True)
class Workload:
    """So many tasks of one type, the same ones each time.

    The limit is low until so many have ended, and high from then on.
    """

    tasks: int
    shards: int = 6
    low_limit: int = 10
    high_limit: int = 200
    stragglers: bool = True

    @property
    def first_part(self) -> int:
        """How many tasks have ended when the limit is raised: 2,000 of 27,000."""
        return self.tasks * 2 // 27

    def task_type(self) -> Body:
        """Return the TaskType."""
        return task_type_body(
            TASK_TYPE,
            template=TEMPLATE,
            maxConcurrent=self.low_limit,
            maxTasksPerShard=round(self.tasks / self.shards * 1.02),  # the last shard is not full
            deadlines={"attemptSeconds": ATTEMPT_SECONDS},
            retry={"maxTimeouts": 0, "backoff": {"initialSeconds": 1, "jitterPercent": 0}},
        )

    def task(self, number: int) -> Body:
        """Return one of the tasks."""
        spec: Body = {"priority": random.Random(number).randrange(3)}
        if self.hangs(number):
            spec["payload"] = {"hang": True}
        elif self.fails_twice(number):
            spec["payload"] = {"exits": [1, 1, 0]}
        return task_body(self.name(number), task_type=TASK_TYPE, **spec)

    @staticmethod
    def name(number: int) -> str:
        """Return a task's name."""
        return f"t-{number:06}"

    def hangs(self, number: int) -> bool:
        """Tell whether a task runs into its deadline."""
        return self.stragglers and number % 100 == 42

    def fails_twice(self, number: int) -> bool:
        """Tell whether a task fails twice before it succeeds."""
        return self.stragglers and number % 50 == 7

    def is_straggler(self, number: int) -> bool:
        """Tell whether a task takes longer than the others."""
        return self.hangs(number) or self.fails_twice(number)

    def outcome(self, number: int) -> tuple[str, tuple[str, ...]]:
        """Return the phase in which a task has to end, and how its attempts have to."""
        if self.hangs(number):
            return "Failed", ("TimedOut",)
        if self.fails_twice(number):
            return "Succeeded", ("Failed", "Failed", "Succeeded")
        return "Succeeded", ("Succeeded",)

    def phases(self) -> dict[str, int]:
        """Return how many tasks have to end in each phase."""
        return dict(Counter(self.outcome(number)[0] for number in range(self.tasks)))
