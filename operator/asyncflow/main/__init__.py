"""Runs the operator until it is told to stop."""

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
    """Run the operator until SIGTERM or SIGINT; then stop in order."""
    gc.collect()
    gc.freeze()  # what was imported stays: looking through it at each full collection takes 60 ms
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
            finally:  # the work ends first, while the watches still tell what happens
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    finally:
        await connection.close()
    logger.info("stopped")
