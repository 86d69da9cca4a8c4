"""How many objects of a side are done in a second, and cleaned up."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from performance.bench.sides import AsyncTasks, Side
from performance.environment import Environment
from performance.observer import Observer
from performance.usage import Reading
from support.admin_api import AdminApi

REPORTING = "asyncflow.dev/operator"
STATUS = "asyncflow.dev/asynctasks/status"
COUNT_SECONDS = 60
"""How long the API server may take to count a write that watchers have seen."""


@dataclass(frozen=True)
class Throughput:
    """One run of one side."""

    side: str
    objects: int
    seconds: float
    """From the first create until the last is done."""
    clean_seconds: float
    """From then on, until nothing is left of them; checking is not in it."""
    used: Reading
    used_to_clean: Reading
    events: int = 0
    """Events that the operator posted about them."""
    wrong: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Objects a second."""
        return self.objects / self.seconds

    @property
    def cleaned_per_second(self) -> float:
        """Objects a second, their cleanup included."""
        return self.objects / (self.seconds + self.clean_seconds)


async def run_side(environment: Environment, side: Side, objects: int) -> Throughput:
    """Create so many objects of a side, wait until all have ended, check them, and clean up.

    The operator runs only for the side that needs it.
    """
    namespace, api = await environment.new_namespace(), environment.api
    path = side.path.format(namespace)
    with environment.operator(needed=isinstance(side, AsyncTasks)) as pids:
        await side.prepare(api, namespace)
        before = await Reading.take(api, pids)
        began = time.monotonic()
        async with Observer.watch(api, namespace, side.path) as observer:
            await api.create(path, [side.body(number) for number in range(objects)])
            await observer.until_ended(side.path, objects)
            ended = time.monotonic()
        after = await Reading.take(api, pids)
        if isinstance(side, AsyncTasks):
            after = await _all_counted(api, pids, before, after, objects)
        wrong = await side.wrong(api, namespace, objects)
        selector = {"fieldSelector": f"reportingComponent={REPORTING}"}
        events = await api.send("GET", f"/api/v1/namespaces/{namespace}/events", **selector)
        clean_before = await Reading.take(api, pids)
        cleaning = time.monotonic()
        await environment.clean_up(namespace, side.path, objects=objects)
        cleaned = time.monotonic()
        used_to_clean = (await Reading.take(api, pids)).since(clean_before)
    return Throughput(
        side.name,
        objects,
        seconds=ended - began,
        clean_seconds=cleaned - cleaning,
        used=after.since(before),
        used_to_clean=used_to_clean,
        events=len(events["items"]),
        wrong=wrong,
    )


async def _all_counted(
    api: AdminApi, pids: Mapping[str, int], before: Reading, after: Reading, objects: int
) -> Reading:
    """Return a reading in which each object's status write is counted: watchers may hear of it earlier."""
    end = time.monotonic() + COUNT_SECONDS
    while after.since(before).writes(STATUS) < objects and time.monotonic() < end:
        later = await Reading.take(api, pids)
        after = replace(later, cpu=after.cpu)
    return after
