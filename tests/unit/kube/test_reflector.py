"""The reflector: one list, then watches that take up where the last one ended."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from asyncflow.kube import reflector as module
from asyncflow.kube.client import JOBS, TASKS, ApiClient, ApiError, ApiUnreachable, Body
from asyncflow.kube.reflector import Reflector
from asyncflow.kube.source import Source
from support.builders import NAMESPACE
from support.fake_api import FakeApiServer
from support.fake_http import connected, serving

LIMIT = 10


class Seen:
    """What a store was told: the version of each object by its uid."""

    def __init__(self) -> None:
        self.there: dict[str, str] = {}
        self._told = asyncio.Event()

    def put(self, body: Body) -> None:
        if body["metadata"]["name"] == "odd":
            raise KeyError("status")
        self.there[body["metadata"]["uid"]] = body["metadata"]["resourceVersion"]
        self._told.set()

    def drop(self, uid: str) -> None:
        del self.there[uid]
        self._told.set()

    async def until(self, *objects: Body) -> None:
        """Wait until these objects, in their versions, are all there is."""
        async with asyncio.timeout(LIMIT):
            while self.there != versions(*objects):
                self._told.clear()
                await self._told.wait()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)


@pytest.fixture
def api() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
async def client(api: FakeApiServer) -> AsyncIterator[ApiClient]:
    async with serving(api) as http, connected(http) as made:
        yield made


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def reflector(client: ApiClient, seen: Seen) -> Reflector:
    return Reflector(client, Source(TASKS, seen.put, seen.drop), None)


def versions(*objects: Body) -> dict[str, str]:
    return {body["metadata"]["uid"]: body["metadata"]["resourceVersion"] for body in objects}


def version(body: Body) -> str:
    return str(body["metadata"]["resourceVersion"])


def create(api: FakeApiServer, name: str) -> Body:
    return api.create(TASKS, NAMESPACE, {"metadata": {"name": name}, "spec": {}})


def change(api: FakeApiServer, name: str) -> Body:
    return api.patch(TASKS, NAMESPACE, name, {"spec": {"priority": api.version}})


def watched_from(api: FakeApiServer) -> list[str | None]:
    return [request.version for request in api.requests if request.verb == "watch"]


async def watches(api: FakeApiServer, number: int) -> None:
    """Wait until so many watches were opened."""
    await asyncio.wait_for(api.until_requested("watch", number), LIMIT)


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(LIMIT):
        while not holds():  # noqa: ASYNC110  # there is nothing that tells of it
            await asyncio.sleep(0)


@asynccontextmanager
async def following(reflector: Reflector) -> AsyncIterator[None]:
    task = asyncio.create_task(reflector.follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_watch_goes_on_where_the_last_one_ended(
    api: FakeApiServer, reflector: Reflector, seen: Seen
) -> None:
    a, b = create(api, "a"), create(api, "b")
    listed = api.version
    async with following(reflector):
        assert await reflector.read() == ({*versions(a, b)}, api.version)
        await watches(api, 1)
        a, b = change(api, "a"), api.delete(TASKS, NAMESPACE, "b")
        await seen.until(a)
        api.close_watches(ApiUnreachable("cut off"))
        await watches(api, 2)
        marked = api.create(JOBS, NAMESPACE, {"metadata": {"name": "of-another-resource"}})
        api.send_bookmarks()
        api.close_watches()
        await watches(api, 3)
        c = create(api, "c")
        api.close_watches(ApiError(500, "InternalError", ""))
        await watches(api, 4)
    assert watched_from(api) == [str(listed), version(b), version(marked), version(c)]
    assert seen.there == versions(a, c)
    assert reflector.lost == 0


async def test_after_missed_changes_nothing_is_heard_until_all_was_read_anew(
    api: FakeApiServer, client: ApiClient, reflector: Reflector, seen: Seen
) -> None:
    a = create(api, "a")
    listed = version(a)
    async with following(reflector):
        await reflector.read()
        await watches(api, 1)
        api.close_watches(ApiUnreachable("cut off"))
        missed = change(api, "a")
        api.compact()
        await eventually(lambda: reflector.lost == 1)
        await client.list(JOBS)
        assert watched_from(api) == [listed, listed]
        assert seen.there == versions(a)
        assert await reflector.read() == ({*versions(missed)}, api.version)
        await watches(api, 3)
        a = change(api, "a")
        api.close_watches()
        await watches(api, 4)
    assert watched_from(api)[2:] == [version(missed), version(a)]
    assert seen.there == versions(a)


async def test_a_version_that_is_refused_again_and_again_is_given_up(
    api: FakeApiServer, client: ApiClient, reflector: Reflector
) -> None:
    listed = api.version
    api.fail("watch", ApiError(504, "Timeout", ""), times=module.MAX_FAILED_RESUMES + 1)
    async with following(reflector):
        await reflector.read()
        await eventually(lambda: reflector.lost == 1)
        await client.list(JOBS)
        assert watched_from(api) == [str(listed)] * module.MAX_FAILED_RESUMES
        create(api, "a")
        await reflector.read()
        await watches(api, module.MAX_FAILED_RESUMES + 2)
    assert watched_from(api)[module.MAX_FAILED_RESUMES :] == [str(listed + 1)] * 2
    assert reflector.lost == 1


async def test_a_list_in_between_does_not_set_a_watch_back(
    api: FakeApiServer, reflector: Reflector, seen: Seen
) -> None:
    a = create(api, "a")
    listed = api.version
    async with following(reflector):
        await reflector.read()
        await watches(api, 1)
        a = change(api, "a")
        await seen.until(a)
        api.create(JOBS, NAMESPACE, {"metadata": {"name": "of-another-resource"}})
        assert await reflector.read() == ({*versions(a)}, api.version)
        api.close_watches()
        await watches(api, 2)
    assert watched_from(api) == [str(listed), version(a)]


async def test_an_object_that_cant_be_read_does_not_hide_the_others(
    api: FakeApiServer, reflector: Reflector, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    create(api, "odd")
    a = create(api, "a")
    async with following(reflector):
        await reflector.read()
        await watches(api, 1)
        change(api, "odd")
        b = create(api, "b")
        await seen.until(a, b)
    assert "skipping invalid asynctasks shop/odd" in caplog.text
