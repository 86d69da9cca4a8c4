"""The real client against the fake API server, over HTTP on loopback."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.config import ConfigException

from asyncflow.kube import client as module
from asyncflow.kube.client import JOBS, TASKS, ApiClient, ApiError, ApiUnreachable
from asyncflow.kube.connection import TOKEN_SECONDS, Connection, Timeouts
from support.builders import NAMESPACE, job_body
from support.fake_api import FakeApiServer
from support.fake_http import FakeHttp, serving

JOB = "order-1-0-1"


@pytest.fixture
def api() -> FakeApiServer:
    made = FakeApiServer()
    made.load(JOBS, job_body())
    return made


@pytest.fixture
async def http(api: FakeApiServer) -> AsyncIterator[FakeHttp]:
    async with serving(api) as made:
        yield made


@pytest.fixture
async def connection(http: FakeHttp) -> AsyncIterator[Connection]:
    made = Connection(http.settings(), Timeouts(total=5, connect=1))
    yield made
    await made.close()


@pytest.fixture
def client(connection: Connection) -> ApiClient:
    return ApiClient(connection)


async def test_a_token_that_was_renewed_is_used_before_long(http: FakeHttp) -> None:
    tokens = iter(("first", "second", "third"))

    def renew(configuration: Any) -> None:
        configuration.api_key["BearerToken"] = f"bearer {next(tokens)}"

    settings = http.settings()
    settings.refresh_api_key_hook = renew
    times = iter((0.0, TOKEN_SECONDS - 1, TOKEN_SECONDS, TOKEN_SECONDS, 2 * TOKEN_SECONDS))
    connection = Connection(settings, clock=lambda: next(times))
    for _ in range(3):
        await ApiClient(connection).get(JOBS, NAMESPACE, JOB)
    async with connection.new_session() as session:  # kopf's
        for _ in range(2):
            await session.get(connection.server)
    await connection.close()
    sent = [request.headers["Authorization"].removeprefix("Bearer ") for request in http.requests]
    assert sent == ["first", "first", "second", "second", "third"]


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ConfigException("empty")])
async def test_a_token_that_cannot_be_read_for_a_moment_is_no_end(http: FakeHttp, error: Exception) -> None:
    read: list[str | Exception] = [error, "first", error, "second"]

    def renew(configuration: Any) -> None:
        now = read.pop(0)
        if isinstance(now, Exception):
            raise now
        configuration.api_key["BearerToken"] = f"bearer {now}"

    settings = http.settings()
    settings.refresh_api_key_hook = renew
    times = itertools.count(step=TOKEN_SECONDS)
    connection = Connection(settings, clock=lambda: next(times))
    client = ApiClient(connection)
    with pytest.raises(ApiUnreachable, match="failed to read bearer token"):
        await client.get(JOBS, NAMESPACE, JOB)
    for _ in range(3):
        await client.get(JOBS, NAMESPACE, JOB)
    await connection.close()
    sent = [request.headers["Authorization"] for request in http.requests]
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]


async def test_a_list_is_read_in_chunks_to_its_end(
    api: FakeApiServer, http: FakeHttp, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIST_CHUNK", 2)
    for name in ("a", "b", "c"):
        api.create(TASKS, NAMESPACE, {"metadata": {"name": name, "labels": {"a": "b"}}})
    api.create(TASKS, NAMESPACE, {"metadata": {"name": "other"}})
    version = api.version
    parts = client.parts(TASKS, labels="a=b")
    assert [item["metadata"]["name"] for item in (await anext(parts)).items] == ["a", "b"]
    api.delete(TASKS, NAMESPACE, "c")  # the list is of one moment
    rest = await anext(parts)
    assert ([item["metadata"]["name"] for item in rest.items], rest.resource_version) == (["c"], str(version))
    with pytest.raises(StopAsyncIteration):
        await anext(parts)
    tokens = [request.query.get("continue") for request in http.requests]
    assert (len(tokens), tokens[0], bool(tokens[1])) == (2, None, True)
    assert {request.query["labelSelector"] for request in http.requests} == {"a=b"}
    listing = await client.list(TASKS)
    assert listing.resource_version == str(version + 1)
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b", "other"]


@pytest.mark.parametrize(
    ("status", "reason", "trait"),
    [
        (409, "AlreadyExists", "already_exists"),
        (409, "Conflict", "conflict"),
        (404, "NotFound", "not_found"),
    ],
)
async def test_what_the_server_says_is_told_apart(
    api: FakeApiServer, client: ApiClient, status: int, reason: str, trait: str
) -> None:
    api.fail("create", ApiError(status, reason, "why"))
    with pytest.raises(ApiError) as refused:
        await client.create(JOBS, NAMESPACE, {})
    assert getattr(refused.value, trait)
    assert refused.value.message == "why"


async def test_a_proxy_that_answers_in_its_own_words_is_no_crash(http: FakeHttp, client: ApiClient) -> None:
    http.answer_next(web.Response(text="<html>bad gateway", status=502, headers={"Retry-After": "3"}))
    with pytest.raises(ApiError) as refused:
        await client.create(JOBS, NAMESPACE, {})
    assert (refused.value.status, refused.value.retry_after) == (502, 3)


async def test_writes_tell_the_server_how_long_they_may_take(
    api: FakeApiServer, http: FakeHttp, client: ApiClient
) -> None:
    await client.create(JOBS, NAMESPACE, {"metadata": {"name": "a"}}, dry_run=True)
    (request,) = http.requests
    assert (request.query["timeout"], request.query["dryRun"]) == ("5s", "All")
    assert "a" not in api.objects(JOBS, NAMESPACE)


async def test_no_answer_is_not_a_refusal(http: FakeHttp, client: ApiClient) -> None:
    await http.close()
    with pytest.raises(ApiUnreachable, match="GET"):
        await client.get(JOBS, NAMESPACE, JOB)


async def test_a_session_that_was_closed_is_replaced(
    http: FakeHttp, client: ApiClient, connection: Connection
) -> None:
    await client.get(JOBS, NAMESPACE, JOB)
    await connection.session.close()
    await client.get(JOBS, NAMESPACE, JOB)
    assert len(http.requests) == 2


async def test_a_watch_yields_whole_events_however_they_were_cut(
    api: FakeApiServer, http: FakeHttp, client: ApiClient
) -> None:
    version = str(api.version)
    first, second = (
        api.create(
            TASKS, NAMESPACE, {"metadata": {"name": name, "labels": {"a": "b"}}, "spec": {"text": text}}
        )
        for name, text in (("a", "x" * 200_000), ("b", "y" * 200_000))
    )
    watch = client.watch(TASKS, NAMESPACE, version=version, labels="a=b")
    assert await anext(watch) == ("ADDED", first)
    assert await anext(watch) == ("ADDED", second)
    api.close_watches(ApiError(410, "Expired", "too old"))
    with pytest.raises(ApiError, match="410 Expired"):
        await anext(watch)
    (asked,) = http.requests
    assert asked.path.endswith("/namespaces/shop/asynctasks")
    assert (asked.query["resourceVersion"], asked.query["labelSelector"]) == (version, "a=b")
    assert 0 < int(asked.query["timeoutSeconds"]) <= 300


async def test_a_watch_that_is_refused_says_why(api: FakeApiServer, client: ApiClient) -> None:
    api.fail("watch", ApiError(403, "Forbidden", "no watch for you"))
    with pytest.raises(ApiError, match="403 Forbidden: no watch for you"):
        await anext(client.watch(TASKS, version="7"))
