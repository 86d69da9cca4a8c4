"""The Jobs of a run in the API server's order, and the limit that held when each was created."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain

from performance.observer import ObservedJob
from performance.scale.workload import Workload


@dataclass(frozen=True)
class Timeline:
    """When which Job ran, and from when on the limit was high."""

    jobs: Collection[ObservedJob]
    """In the order in which they were created."""
    workload: Workload
    raised_at: int
    """The API server's version in which the limit was raised."""

    def part(self, version: int) -> str:
        """Return in which part of the run a version is: low or high, as the limit is."""
        return "low" if version < self.raised_at else "high"

    def limit(self, job: ObservedJob) -> int:
        """Return how many Jobs might run at once when this one was created."""
        low = self.part(job.created_version) == "low"
        return self.workload.low_limit if low else self.workload.high_limit

    def most_at_once(self) -> dict[str, int]:
        """Return the most Jobs at once that had not ended, by the part of the run."""
        created = ((job.created_version, 1) for job in self.jobs)
        ended = ((job.ended_version, -1) for job in self.jobs if job.ended_version is not None)
        live, most = 0, dict[str, int]()
        for version, change in sorted(chain(created, ended)):
            live += change
            if change > 0:
                most[self.part(version)] = max(most.get(self.part(version), 0), live)
        return most

    def first_starts(self) -> list[tuple[str, int]]:
        """Return the tasks' names in the order of their first Jobs, each with the limit of that time."""
        return [(job.task, self.limit(job)) for job in self.jobs if job.attempt == 1]

    def straggler_seconds(self) -> float:
        """Return the slot-seconds of the stragglers, each divided by the limit of its time."""
        numbers = range(self.workload.tasks)
        stragglers = {self.workload.name(n) for n in numbers if self.workload.is_straggler(n)}
        return sum(
            (job.ended - job.created) / self.limit(job)
            for job in self.jobs
            if job.task in stragglers and job.ended is not None
        )
