"""kopf: its settings, and a loop that starts it again should it fail.

kopf 1.45.2 ends on an ERROR event other than 410, on a list that is refused for good, and on an answer that
it cannot decode. None of that is a reason to stop an operator that leads: what it started is not lost, and
the watches come back. So kopf is started again; what was missed meanwhile is found by a comparison.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from asyncflow.api import names
from asyncflow.controller.operator import Operator
from asyncflow.handlers import register
from asyncflow.kube.client import SILENCE_SECONDS, WATCH_SECONDS

logger = logging.getLogger(__name__)

IDENTITY = "asyncflow"
"""Given to kopf, which would look up the user's name: in a container the user has none."""

WORKER_IDLE_SECONDS = 0.01
"""How long kopf's worker of an object waits for the object's next event. 0 would spin."""

LIST_CHUNK = 500
WORKERS = 100
"""How many objects of a resource kopf works on at a time: a bound of what is in memory while it lists."""


FIRST_PAUSE = 1.0
LONGEST_PAUSE = 15.0
"""Seconds until a request of kopf, or kopf itself, is tried again: at first, and at most."""


STOP_SECONDS = 10.0
"""How long kopf's tasks may take to end."""


class Backoffs:
    """Endless: kopf gives up after the last of its backoffs, and an API server may be away for longer."""

    def __iter__(self) -> Iterator[float]:
        """Yield the seconds before each next try."""
        pause = FIRST_PAUSE
        while True:
            yield pause
            pause = min(LONGEST_PAUSE, 2 * pause)


class Watches:
    """Lets kopf watch what the operator follows, until cancelled.

    Args:
        operator: what the events are handed to.
        after_start: called after each start of kopf, which takes over the handling of signals.
    """

    def __init__(self, operator: Operator, after_start: Callable[[], None]) -> None:
        self._operator = operator
        self._after_start = after_start
        self._login_time = -math.inf
        self._login_pauses = iter(Backoffs())

    async def run(self) -> None:
        """Keep kopf running."""
        backoffs = iter(Backoffs())
        clock = asyncio.get_running_loop().time
        while True:
            began, ended = clock(), "kopf has ended"
            try:
                await self._operator.until_served()
                await self._run_kopf()
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                ended = repr(error)  # one of kopf's tasks was cancelled
            except Exception as error:
                ended = repr(error)
            if clock() - began > LONGEST_PAUSE:
                backoffs = iter(Backoffs())
            pause = next(backoffs)
            logger.error("watch loop failed, restarting in %.0f s: %s", pause, ended)
            await asyncio.sleep(pause)

    async def _run_kopf(self) -> None:
        """Run kopf until it fails, or until cancelled.

        `kopf.run_tasks` is not used: in the end it cancels every task that was created since, also the
        operator's.
        """
        registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
        register(registry, self._operator.sources)
        kopf.on.login(registry=registry)(self._login)
        configure(settings)
        namespaces = self._operator.settings.namespaces
        stop = asyncio.Event()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=settings,
            memories=NoMemories(),
            clusterwide=not namespaces,
            namespaces=namespaces,
            standalone=True,
            identity=IDENTITY,  # type: ignore[arg-type]  # a NewType of str that kopf does not export
            stop_flag=stop,
        )
        self._after_start()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            await _cancel(tasks)
            # A watch that fails leaves the others behind. They end what they have begun: so they go first.
            await _cancel([task for task in _tasks_of_kopf() if task.get_name().startswith("watcher")])
            await _cancel(_tasks_of_kopf())
        for task in done:
            task.result()

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        """Return a session of kopf's own, which it closes on any 401: then it logs in again, with backoff."""
        clock = asyncio.get_running_loop().time
        if clock() - self._login_time > LONGEST_PAUSE:
            self._login_pauses = iter(Backoffs())
        else:
            await asyncio.sleep(next(self._login_pauses))
        self._login_time = clock()
        connection = self._operator.connection
        return kopf.AiohttpSession(
            server=connection.server, aiohttp_session=connection.new_session(self._note_lists)
        )

    async def _note_lists(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Tell the operator when kopf lists: what was deleted before, kopf does not tell.

        The list's version is settled when its answer begins, so a comparison from then on is at least as new.
        """
        response = await send(request)
        query = request.url.query
        if response.status == 200 and "watch" not in query and "continue" not in query:
            self._operator.listed()
        return response


def _tasks_of_kopf() -> list["asyncio.Task[Any]"]:
    """Return the tasks of the event loop that run kopf's code."""
    package = str(Path(kopf.__file__).parent)
    codes = {task: getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()}
    return [task for task, code in codes.items() if code and code.co_filename.startswith(package)]


async def _cancel(tasks: Collection["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)


def configure(settings: kopf.OperatorSettings) -> None:
    """Set what kopf's defaults do not fit. docs/concepts/architecture.md has what they cost."""
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.queueing.idle_timeout = WORKER_IDLE_SECONDS
    settings.queueing.worker_limit = WORKERS
    settings.networking.error_backoffs = Backoffs()
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.chunk_size = LIST_CHUNK
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.inactivity_timeout = SILENCE_SECONDS
    settings.watching.label_selectors["coordination.k8s.io", "leases"] = names.LOCK_SELECTOR
    settings.persistence.diffbase_storage = NoDiffBase()


class NoMemories(ResourceMemories):
    """Keeps nothing about objects: a memory costs 4.7 KiB, and no handler of ours uses one."""

    async def recall(self, raw_body: Any, *, noticed_by_listing: bool = False, **_: Any) -> ResourceMemory:
        """Return a new memory."""
        return ResourceMemory(noticed_by_listing=noticed_by_listing)

    async def forget(self, raw_body: Any) -> None:
        """Forget nothing: nothing was kept."""


class NoDiffBase(kopf.DiffBaseStorage):
    """Computes no differences: kopf would copy each object at every event, a quarter of its cost."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """Return an empty essence: no handler asks what has changed."""
        return {}

    def fetch(self, *, body: Any) -> None:
        """Return nothing: nothing was kept."""

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Keep nothing."""
