"""Runs the operator until it is told to stop."""

import asyncio
import logging
import signal

import kopf
import uvloop

from asyncflow.handlers.operator import Operator
from asyncflow.handlers.watch import register
from asyncflow.kube.connection import Connection
from asyncflow.kube.probes import serve_probes
from asyncflow.settings import Settings

logger = logging.getLogger(__name__)

IDENTITY = "asyncflow"
"""Given to kopf, which would look up the user's name: in a container the user has none."""


def run(connection: Connection, settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT; then stop in order."""
    uvloop.run(_run(connection, settings))


async def _run(connection: Connection, settings: Settings) -> None:
    stop = asyncio.Event()
    _heed_signals(stop)
    operator = Operator(connection, settings)
    registry = kopf.OperatorRegistry()
    register(registry, operator)
    try:
        async with serve_probes(settings.port, alive=operator.alive, ready=operator.ready):
            await _work(operator, registry, settings, stop)
    finally:
        await connection.close()
    logger.info("stopped")


async def _work(
    operator: Operator, registry: kopf.OperatorRegistry, settings: Settings, stop: asyncio.Event
) -> None:
    """Watch and work until told to stop. The work ends first, while the watches still tell what happens."""
    end_watching = asyncio.Event()
    ours = asyncio.all_tasks()
    watches = await kopf.spawn_tasks(
        registry=registry,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        standalone=True,
        identity=IDENTITY,  # type: ignore[arg-type]  # a NewType of str that kopf does not export
        stop_flag=end_watching,
    )
    _heed_signals(stop)  # once more: kopf has taken them over
    watching = asyncio.create_task(kopf.run_tasks(watches, ignored=ours), name="kopf")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        async with operator.running():
            await asyncio.wait({watching, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        end_watching.set()
        await watching


def _heed_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
