"""The operator's own HTTP port: liveness and readiness."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def serve_probes(
    port: int, *, alive: Callable[[], str | None], ready: Callable[[], str | None]
) -> AsyncIterator[None]:
    """Serve ``/healthz`` and ``/readyz`` while the block runs.

    Args:
        port: where to listen, on all addresses: the kubelet asks from outside the pod.
        alive: returns what is wrong beyond repair, or None.
        ready: returns what is still missing, or None.
    """

    def answer(check: Callable[[], str | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def respond(_: web.Request) -> web.Response:
            problem = check()
            return web.Response(text=problem or "ok", status=503 if problem else 200)

        return respond

    app = web.Application()
    for path, check in (("/healthz", alive), ("/readyz", ready)):
        app.router.add_get(path, answer(check))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()
