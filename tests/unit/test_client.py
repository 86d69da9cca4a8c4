"""The API client against a server on loopback that answers as an API server does."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.client import Configuration
from kubernetes.config import ConfigException

from asyncflow.kube.client import JOBS, TASKS, ApiClient, ApiError, ApiUnreachable
from asyncflow.kube.connection import TOKEN_SECONDS, Connection, Timeouts


class Server:
    """Notes what it is asked, and answers what it is told to."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.answers: list[web.Response] = []

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked.append(request)
        return self.answers.pop(0) if self.answers else web.json_response({"metadata": {}})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, TestServer]]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    running = TestServer(app)
    async with running:
        yield made, running


@pytest.fixture
async def settings(server: tuple[Server, TestServer]) -> Any:
    made: Any = Configuration()
    made.host = str(server[1].make_url("/"))
    return made


@pytest.fixture
async def client(settings: Any) -> AsyncIterator[ApiClient]:
    connection = Connection(settings, Timeouts(total=5, connect=1))
    yield ApiClient(connection)
    await connection.close()


async def test_a_token_that_was_renewed_is_used_before_long(
    server: tuple[Server, TestServer], settings: Any
) -> None:
    tokens = iter(("first", "second", "third"))

    def renew(configuration: Any) -> None:
        configuration.api_key["BearerToken"] = f"bearer {next(tokens)}"

    settings.refresh_api_key_hook = renew
    times = iter((0.0, TOKEN_SECONDS - 1, TOKEN_SECONDS, TOKEN_SECONDS, 2 * TOKEN_SECONDS))
    connection = Connection(settings, clock=lambda: next(times))
    for _ in range(3):
        await ApiClient(connection).get(JOBS, "shop", "a")
    async with connection.new_session() as session:  # kopf's
        for _ in range(2):
            await session.get(connection.server)
    await connection.close()
    sent = [request.headers["Authorization"].removeprefix("Bearer ") for request in server[0].asked]
    assert sent == ["first", "first", "second", "second", "third"]


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ConfigException("empty")])
async def test_a_token_that_cannot_be_read_for_a_moment_is_no_end(
    server: tuple[Server, TestServer], settings: Any, error: Exception
) -> None:
    read: list[str | Exception] = [error, "first", error, "second"]

    def renew(configuration: Any) -> None:
        now = read.pop(0)
        if isinstance(now, Exception):
            raise now
        configuration.api_key["BearerToken"] = f"bearer {now}"

    settings.refresh_api_key_hook = renew
    times = itertools.count(step=TOKEN_SECONDS)
    client = ApiClient(Connection(settings, clock=lambda: next(times)))
    with pytest.raises(ApiUnreachable, match="failed to read bearer token"):
        await client.get(JOBS, "shop", "a")
    for _ in range(3):
        await client.get(JOBS, "shop", "a")
    await client._connection.close()
    sent = [request.headers["Authorization"] for request in server[0].asked]
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]


async def test_a_list_is_read_in_chunks_to_its_end(
    server: tuple[Server, TestServer], client: ApiClient
) -> None:
    for items, rest in (([1, 2], "more"), ([3], "")):
        meta = {"resourceVersion": "7", "continue": rest}
        server[0].answers.append(web.json_response({"items": items, "metadata": meta}))
    listing = await client.list(TASKS, labels="a=b")
    assert listing.resource_version == "7"
    assert [*map(str, listing.items)] == ["1", "2", "3"]
    assert [r.query.get("continue") for r in server[0].asked] == [None, "more"]
    assert {r.query["labelSelector"] for r in server[0].asked} == {"a=b"}


@pytest.mark.parametrize(
    ("status", "reason", "trait"),
    [
        (409, "AlreadyExists", "already_exists"),
        (409, "Conflict", "conflict"),
        (404, "NotFound", "not_found"),
    ],
)
async def test_what_the_server_says_is_told_apart(
    server: tuple[Server, TestServer], client: ApiClient, status: int, reason: str, trait: str
) -> None:
    server[0].answers.append(web.json_response({"reason": reason, "message": "why"}, status=status))
    with pytest.raises(ApiError) as refused:
        await client.create(JOBS, "shop", {})
    assert getattr(refused.value, trait)
    assert refused.value.message == "why"


async def test_a_proxy_that_answers_in_its_own_words_is_no_crash(
    server: tuple[Server, TestServer], client: ApiClient
) -> None:
    server[0].answers.append(web.Response(text="<html>bad gateway", status=502, headers={"Retry-After": "3"}))
    with pytest.raises(ApiError) as refused:
        await client.create(JOBS, "shop", {})
    assert (refused.value.status, refused.value.retry_after) == (502, 3)


async def test_writes_tell_the_server_how_long_they_may_take(
    server: tuple[Server, TestServer], client: ApiClient
) -> None:
    await client.create(JOBS, "shop", {}, dry_run=True)
    (request,) = server[0].asked
    assert (request.query["timeout"], request.query["dryRun"]) == ("5s", "All")


async def test_no_answer_is_not_a_refusal(server: tuple[Server, TestServer], client: ApiClient) -> None:
    await server[1].close()
    with pytest.raises(ApiUnreachable, match="GET"):
        await client.get(JOBS, "shop", "a")


async def test_a_session_that_was_closed_is_replaced(
    server: tuple[Server, TestServer], client: ApiClient, settings: Any
) -> None:
    await client.get(JOBS, "shop", "a")
    await client._connection.session.close()
    await client.get(JOBS, "shop", "a")
    assert len(server[0].asked) == 2


async def test_a_watch_yields_whole_events_however_they_were_cut(
    server: tuple[Server, TestServer], client: ApiClient
) -> None:
    first, second = ({"type": "ADDED", "object": {"n": n, "text": "x" * 200_000}} for n in (1, 2))
    gone = {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}}
    lines = b"".join(orjson.dumps(event) + b"\n" for event in (first, second, gone))
    server[0].answers.append(web.Response(body=lines))
    watch = client.watch(TASKS, "shop", version="7", labels="a=b")
    assert await anext(watch) == ("ADDED", first["object"])
    assert await anext(watch) == ("ADDED", second["object"])
    with pytest.raises(ApiError, match="410 Expired"):
        await anext(watch)
    (asked,) = server[0].asked
    assert asked.path.endswith("/namespaces/shop/asynctasks")
    assert (asked.query["resourceVersion"], asked.query["labelSelector"]) == ("7", "a=b")
    assert 0 < int(asked.query["timeoutSeconds"]) <= 300


async def test_a_watch_that_is_refused_says_why(server: tuple[Server, TestServer], client: ApiClient) -> None:
    refusal = {"reason": "Forbidden", "message": "no watch for you"}
    server[0].answers.append(web.json_response(refusal, status=403))
    with pytest.raises(ApiError, match="403 Forbidden: no watch for you"):
        await anext(client.watch(TASKS, version="7"))
