"""How many objects of a side are done in a second, and cleaned up."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from performance.bench import Bench, clean_up, patience
from performance.sides import AsyncTasks, Side
from performance.usage import Reading
from support.admin_api import AdminApi

REPORTING = "asyncflow.dev/operator"
STATUS = "asyncflow.dev/asynctasks/status"
COUNT_SECONDS = 10
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


async def run_side(bench: Bench, side: Side, objects: int) -> Throughput:
    """Create so many objects of a side, wait until all are done, check them, and clean up.

    The operator runs only for the side that needs it.
    """
    namespace = await bench.new_namespace()
    with bench.operator(needed=isinstance(side, AsyncTasks)) as pids:
        await side.prepare(bench.api, namespace)
        before = await Reading.take(bench.api, pids)
        began = time.monotonic()
        await _until_done(bench.api, side, namespace, objects)
        ended = time.monotonic()
        after = await Reading.take(bench.api, pids)
        if isinstance(side, AsyncTasks):
            after = await _all_counted(bench.api, pids, before, after, objects)
        wrong = await side.wrong(bench.api, namespace, objects)
        selector = {"fieldSelector": f"reportingComponent={REPORTING}"}
        events = await bench.api.send("GET", f"/api/v1/namespaces/{namespace}/events", **selector)
        clean_before = await Reading.take(bench.api, pids)
        cleaning = time.monotonic()
        await clean_up(bench.api, (side.path,), namespace, seconds=patience(objects))
        cleaned = time.monotonic()
        used_to_clean = (await Reading.take(bench.api, pids)).since(clean_before)
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


async def _until_done(api: AdminApi, side: Side, namespace: str, objects: int) -> None:
    path = side.path.format(namespace)
    version = await api.version(path)
    done: set[str] = set()

    async def watch() -> None:
        async for _, body in api.watch(path, version):
            if side.done(body):
                done.add(body["metadata"]["name"])
                if len(done) == objects:
                    return

    async with asyncio.timeout(patience(objects)), asyncio.TaskGroup() as group:
        group.create_task(watch())
        group.create_task(api.create(path, [side.body(number) for number in range(objects)]))
