"""HTTP endpoints for the liveness and readiness probes of the operator."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def serve_probes(
    port: int, *, alive: Callable[[], str | None], ready: Callable[[], str | None]
) -> AsyncIterator[None]:
    """Serve ``/healthz`` and ``/readyz`` while the block runs.

    Args:
        port: the port to listen on, on all addresses: the kubelet connects to the IP address of the pod.
        alive: returns the failure that only a restart fixes, or None.
        ready: returns what the operator still waits for, or None.
    """

    def handler(check: Callable[[], str | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(_: web.Request) -> web.Response:
            problem = check()
            return web.Response(text=problem or "ok", status=503 if problem else 200)

        return handle

    app = web.Application()
    for path, check in (("/healthz", alive), ("/readyz", ready)):
        app.router.add_get(path, handler(check))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()
