"""The fake API server over HTTP on loopback: for tests of the real client and of what is built on it."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.client import Configuration

from asyncflow.kube.client import MERGE_PATCH, ApiClient, ApiError, ApiUnreachable, Body, Listing, Resource
from asyncflow.kube.connection import Connection, Timeouts
from support.fake_api import FakeApiServer, Request, Verb, served
from support.object_store import RESOURCES

VERBS: dict[str, Verb] = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
LINE_END = b"\n"


class FakeHttp:
    """Answers HTTP requests as the API server does, and keeps them."""

    def __init__(self, api: FakeApiServer) -> None:
        self.api = api
        self.requests: list[web.Request] = []
        """What has come in, in order."""
        self._answers: list[web.Response] = []
        self._rests: dict[str, Listing] = {}
        self._tokens = itertools.count(1)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._server = TestServer(app)

    async def start(self) -> None:
        """Listen on a port of loopback."""
        await self._server.start_server()

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        self.api.close_watches()
        await self._server.close()

    def settings(self) -> Any:
        """Return a client's configuration that leads here."""
        made: Any = Configuration()
        made.host = str(self._server.make_url("/"))
        return made

    def answer_next(self, answer: web.Response) -> None:
        """Let something before the API server answer the next request."""
        self._answers.append(answer)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.requests.append(request)
        if self._answers:
            return self._answers.pop(0)
        try:
            if "watch" in request.query:
                return await self._watch(request)
            return _json(await self._answer(request), 201 if request.method == "POST" else 200)
        except ApiError as error:
            return _refusal(error)
        except ApiUnreachable:
            return _broken_off(request, web.Response())

    async def _answer(self, request: web.Request) -> Body:
        parts = request.path.strip("/").split("/")
        if parts[0] == "apis" and len(parts) == 3:
            names = served(parts[1], parts[2])
            if not names:
                raise ApiError(404, "NotFound", "the server could not find the requested resource")
            return {"resources": [{"name": name} for name in sorted(names)]}
        if request.method == "PATCH" and request.content_type != MERGE_PATCH:
            raise ApiError(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        if token := request.query.get("continue"):
            answer = self._rests.pop(token)
        else:
            answer = self.api.handle(_read(request, await request.read()))
        if isinstance(answer, Listing):
            return self._part(answer, int(request.query.get("limit", 0)))
        body: Body = answer
        return body

    def _part(self, listing: Listing, limit: int) -> Body:
        """Return a part of a list; the rest is kept as it is now, for who comes back with the token."""
        meta = {"resourceVersion": listing.resource_version}
        if limit and len(listing.items) > limit:
            token = meta["continue"] = f"rest-{next(self._tokens)}"
            self._rests[token] = Listing(listing.items[limit:], listing.resource_version)
        return {"metadata": meta, "items": listing.items[: limit or None]}

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        watch = self.api.open_watch(_read(request, b""))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await response.prepare(request)
            try:
                async for event_type, body in watch:
                    await _tell(response, event_type, body)
            except ApiError as error:
                await _tell(response, "ERROR", _status(error))
            await response.write_eof()
        except ApiUnreachable:
            return _broken_off(request, response)
        except ConnectionError:
            pass  # the client is gone
        finally:
            self.api.forget(watch)
        return response


@asynccontextmanager
async def serving(api: FakeApiServer) -> AsyncIterator[FakeHttp]:
    """Serve an API server until the block ends."""
    made = FakeHttp(api)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def connected(
    http: FakeHttp, *, may_write: Callable[[], bool] = lambda: True
) -> AsyncIterator[ApiClient]:
    """Return the real client, connected to a server until the block ends."""
    connection = Connection(http.settings(), Timeouts(total=5, connect=1))
    try:
        yield ApiClient(connection, may_write=may_write)
    finally:
        await connection.close()


def _read(request: web.Request, content: bytes) -> Request:
    """Return what an HTTP request asks for."""
    _, root, *parts = request.path.split("/")
    group = parts.pop(0) if root == "apis" else ""
    version = parts.pop(0)
    namespace = None
    if parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    plural, name, subresource = [*parts, "", ""][:3]
    resource = Resource(group, version, plural)
    if root not in ("api", "apis") or resource not in RESOURCES:
        raise ApiError(404, "NotFound", "the server could not find the requested resource")
    query = request.query
    body: Body = orjson.loads(content) if content else {}
    verb: Verb = VERBS.get(request.method, "get" if name else "list")
    preconditions = body.get("preconditions", {}) if verb == "delete" else {}
    return Request(
        "watch" if "watch" in query else verb,
        resource,
        namespace,
        name or body.get("metadata", {}).get("name", ""),
        {} if verb == "delete" else body,
        subresource or None,
        query.get("labelSelector"),
        query.get("fieldSelector"),
        uid=preconditions.get("uid"),
        version=preconditions.get("resourceVersion") or query.get("resourceVersion"),
        propagation=body.get("propagationPolicy") if verb == "delete" else None,
        dry_run=query.get("dryRun") == "All",
    )


def _json(body: Body, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _status(error: ApiError) -> Body:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return {**status, "code": error.status, "reason": error.reason, "message": error.message}


def _refusal(error: ApiError) -> web.Response:
    answer = _json(_status(error), error.status)
    if error.retry_after is not None:
        answer.headers["Retry-After"] = f"{error.retry_after:g}"
    return answer


async def _tell(response: web.StreamResponse, event_type: str, body: Body) -> None:
    await response.write(orjson.dumps({"type": event_type, "object": body}) + LINE_END)


def _broken_off(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection before the answer's end."""
    if request.transport is not None:
        request.transport.close()
    return response
