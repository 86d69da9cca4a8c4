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
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    operator = Operator(connection, settings)
    registry = kopf.OperatorRegistry()
    register(registry, operator)
    work = asyncio.create_task(_work(operator, registry, settings, stop), name="operator")
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if operator.ready() is not None and not work.done():
            work.cancel()  # nothing is under way before the cluster has been read
        await asyncio.gather(work, return_exceptions=False)
    except asyncio.CancelledError:
        logger.info("stopped before the cluster was read")
    finally:
        stopped.cancel()
        await connection.close()


async def _work(
    operator: Operator, registry: kopf.OperatorRegistry, settings: Settings, stop: asyncio.Event
) -> None:
    async with serve_probes(settings.port, alive=operator.alive, ready=operator.ready), operator.running():
        await kopf.operator(
            registry=registry,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            standalone=True,
            identity=IDENTITY,  # type: ignore[arg-type]  # a NewType of str that kopf does not export
            stop_flag=stop,
        )
    logger.info("stopped")
