"""Runs the operator process."""

import asyncio
import gc
import logging
import signal

import uvloop

from asyncflow.controller.operator import Operator
from asyncflow.kube.connection import Connection
from asyncflow.kube.probes import serve_probes
from asyncflow.main.watches import Watches
from asyncflow.settings import Settings

logger = logging.getLogger(__name__)


def run(connection: Connection, settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT; then shut down gracefully."""
    gc.collect()
    gc.freeze()  # imported modules stay: traversing them takes 60 ms in each full collection
    uvloop.run(_run(connection, settings))


async def _run(connection: Connection, settings: Settings) -> None:
    stop = asyncio.Event()

    def handle_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)

    handle_signals()
    operator = Operator(connection, settings)
    watches = Watches(operator, after_start=handle_signals)
    try:
        async with serve_probes(settings.port, alive=operator.alive, ready=operator.ready):
            watching = asyncio.create_task(watches.run(), name="kopf")
            try:
                async with operator.running():
                    await stop.wait()
            finally:  # after the work has finished: it needs the watch events until then
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    finally:
        await connection.close()
    logger.info("stopped")
