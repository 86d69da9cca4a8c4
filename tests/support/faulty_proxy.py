"""A proxy before the API server that can cut, silence and falsify watches, and refuse lists."""

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from clusters.controlplane import ControlPlane

HOP_BY_HOP = {"transfer-encoding", "connection", "content-length", "host", "content-encoding"}


class FaultyProxy:
    """Forwards everything to the API server, but for the faults that are set.

    Faults concern a resource by its plural name. They are set from another thread than the proxy's own.
    """

    def __init__(self, control_plane: ControlPlane) -> None:
        self._server = control_plane.url
        self._tls = ssl.create_default_context(cafile=str(control_plane.ca_file))
        self._loop = asyncio.new_event_loop()
        self._silent: set[web.StreamResponse] = set()
        self._held: set[str] = set()
        self._refused: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self._watches: dict[web.StreamResponse, str] = {}
        self.lists: list[str] = []
        """The resources that were listed, one entry for each first chunk."""
        self.url = ""

    # Faults

    def silence(self, *resources: str) -> None:
        """Let the open watches of resources hear nothing more; watches that are opened later do."""
        for response, resource in list(self._watches.items()):
            if resource in resources:
                self._silent.add(response)

    def hold(self, *resources: str) -> None:
        """End the open watches of resources, and answer no new watch of them until `release`."""
        self._held.update(resources)
        self.cut(*resources)

    def release(self, *, error: int | None = None) -> None:
        """Answer watches again; with an ERROR event of that code first, if one is given."""
        if error is not None:
            self._errors = dict.fromkeys(self._held, error)
        self._held.clear()

    def cut(self, *resources: str) -> None:
        """Break the connections of open watches."""
        for response, resource in list(self._watches.items()):
            if resource in resources:
                self._call(self._break(response))

    def send_error(self, code: int, *resources: str) -> None:
        """Break open watches; what is watched next begins with an ERROR event of that code."""
        self._errors.update(dict.fromkeys(resources, code))
        self.cut(*resources)

    def refuse_lists(self, status: int | None, *resources: str) -> None:
        """Answer lists with an error status; with None, forward them again."""
        for resource in resources:
            if status is None:
                self._refused.pop(resource, None)
            else:
                self._refused[resource] = status

    # Its life

    @contextlib.contextmanager
    def running(self) -> Iterator["FaultyProxy"]:
        """Serve on loopback until the block ends."""
        ready: Future[str] = Future()
        thread = threading.Thread(target=self._run_loop, args=(ready,))
        thread.start()
        self.url = ready.result(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)

    def kubeconfig(self, operator: Path, path: Path) -> Path:
        """Write a kubeconfig that leads here, for whom another kubeconfig names."""
        config = json.loads(operator.read_text())
        for cluster in config["clusters"]:
            cluster["cluster"] = {"server": self.url}
        path.write_text(json.dumps(config))
        return path

    def _run_loop(self, ready: "Future[str]") -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: "Future[str]") -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server: Any = site._server
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            ready.set_result(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await self._stop.wait()
            await runner.cleanup()

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _break(self, response: web.StreamResponse) -> None:
        self._watches.pop(response, None)
        request: Any = response._req
        if request is not None and request.transport is not None:
            request.transport.abort()

    # Forwarding

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        resource = request.path.rpartition("/")[2]
        watch = "watch" in request.query
        if request.method == "GET" and not watch:
            if resource in self._refused:
                return _status(self._refused[resource])
            if "continue" not in request.query:
                self.lists.append(resource)
        while watch and resource in self._held:  # noqa: ASYNC110  # set from another thread
            await asyncio.sleep(0.05)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        headers["Accept-Encoding"] = "identity"
        async with self._session.request(
            request.method,
            self._server + request.path_qs,
            headers=headers,
            data=await request.read() or None,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            try:
                await response.prepare(request)
                if watch:
                    self._watches[response] = resource
                    if (code := self._errors.pop(resource, None)) is not None:
                        await response.write(_error_event(code))
                async for chunk in answer.content.iter_any():
                    if response not in self._silent:
                        await response.write(chunk)
                await response.write_eof()
            except (ConnectionError, aiohttp.ClientError):
                pass
            finally:
                self._watches.pop(response, None)
                self._silent.discard(response)
            return response


def _status(code: int) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Forbidden"}
    return web.json_response({**body, "message": "refused by the test"}, status=code)


def _error_event(code: int) -> bytes:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Expired"}
    status["message"] = "etcdserver: made by the test"
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
