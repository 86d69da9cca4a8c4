"""Runs kopf: its settings, and a loop that restarts it if it fails.

kopf 1.45.2 terminates on an ERROR event other than 410, on a list that fails with a permanent error, and on a
response that it cannot decode. None of these is a reason to stop the operator while it leads, so kopf is
restarted. A resync finds what was missed in between.
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
"""Identity for kopf. Without one kopf looks up the name of the user, which does not exist in a container."""

WORKER_IDLE_SECONDS = 0.01
"""How long kopf's worker of an object waits for its next event. With 0 it would busy-wait."""

LIST_CHUNK = 500
"""Objects per page of a list."""
WORKERS = 100
"""How many objects of a resource kopf processes concurrently. Bounds the memory used during a list."""


FIRST_PAUSE = 1.0
LONGEST_PAUSE = 15.0
"""Backoff of a request of kopf, and of a restart of kopf, in seconds: the first pause, and the maximum."""


STOP_SECONDS = 10.0
"""How long to wait for cancelled tasks of kopf."""


class Backoffs:
    """An infinite sequence of pauses: after the last one kopf would give up on the API server."""

    def __iter__(self) -> Iterator[float]:
        """Yield the seconds before each retry: exponential, up to `LONGEST_PAUSE`."""
        pause = FIRST_PAUSE
        while True:
            yield pause
            pause = min(LONGEST_PAUSE, 2 * pause)


class Watches:
    """Watches AsyncTasks, TaskTypes and Leases with kopf.

    Args:
        operator: receives the events.
        after_start: called after each start of kopf, which replaces the signal handlers.
    """

    def __init__(self, operator: Operator, after_start: Callable[[], None]) -> None:
        self._operator = operator
        self._after_start = after_start
        self._login_time = -math.inf
        self._login_pauses = iter(Backoffs())

    async def run(self) -> None:
        """Run kopf until cancelled; restart it with backoff if it fails."""
        backoffs = iter(Backoffs())
        clock = asyncio.get_running_loop().time
        while True:
            started, failure = clock(), "kopf has terminated"
            try:
                await self._operator.until_served()
                await self._run_kopf()
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                failure = repr(error)  # one of kopf's tasks was cancelled
            except Exception as error:
                failure = repr(error)
            if clock() - started > LONGEST_PAUSE:
                backoffs = iter(Backoffs())
            pause = next(backoffs)
            logger.error("watch loop failed, restarting in %.0f s: %s", pause, failure)
            await asyncio.sleep(pause)

    async def _run_kopf(self) -> None:
        """Run kopf until it fails or is cancelled.

        `kopf.run_tasks` is not used: at its end it cancels all tasks created since its start, including those
        of the operator.
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
            # A failed watch leaves the others running. Watchers go first: they finish what they have started.
            await _cancel([task for task in _tasks_of_kopf() if task.get_name().startswith("watcher")])
            await _cancel(_tasks_of_kopf())
        for task in done:
            task.result()

    async def _login(self, **_: Any) -> kopf.AiohttpSession:
        """Return a new session for kopf, which closes it on a 401 and logs in again; with backoff."""
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
        """Notify the operator of each list: kopf delivers no events for objects deleted before it.

        The resource version of the list is fixed when its response begins, so a resync that starts after that
        is at least as recent.
        """
        response = await send(request)
        query = request.url.query
        if response.status == 200 and "watch" not in query and "continue" not in query:
            self._operator.listed()
        return response


def _tasks_of_kopf() -> list["asyncio.Task[Any]"]:
    """Return the tasks of the event loop that run code of kopf."""
    package = str(Path(kopf.__file__).parent)
    codes = {task: getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()}
    return [task for task, code in codes.items() if code and code.co_filename.startswith(package)]


async def _cancel(tasks: Collection["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=STOP_SECONDS)


def configure(settings: kopf.OperatorSettings) -> None:
    """Set what differs from kopf's defaults; docs/concepts/architecture.md lists what the defaults cost."""
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
    """Stores no memories of objects: each takes 4.7 KiB, and the handlers do not use them."""

    async def recall(self, raw_body: Any, *, noticed_by_listing: bool = False, **_: Any) -> ResourceMemory:
        """Return a new memory."""
        return ResourceMemory(noticed_by_listing=noticed_by_listing)

    async def forget(self, raw_body: Any) -> None:
        """Do nothing: no memory is stored."""


class NoDiffBase(kopf.DiffBaseStorage):
    """Computes no diffs: kopf would copy the object at every event, a quarter of the cost of an event."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """Return an empty essence: no handler uses diffs."""
        return {}

    def fetch(self, *, body: Any) -> None:
        """Return None: no essence is stored."""

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Do nothing: no essence is stored."""
