"""The reflector: one list, then watches that take up where the last one ended."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from asyncflow.kube import reflector as module
from asyncflow.kube.client import TASKS, ApiError, ApiUnreachable, Listing
from asyncflow.kube.reflector import Reflector
from asyncflow.kube.source import Source

Body = dict[str, Any]
GONE = ApiError(410, "Expired", "too old resource version")


class Script:
    """A client whose lists and watches are written down; at their end it waits forever."""

    def __init__(self, lists: list[Listing], watches: list[list[tuple[str, Body] | Exception]]) -> None:
        self._lists = lists
        self._watches = watches
        self.watched_from: list[str] = []
        self.over = asyncio.Event()

    async def parts(self, *_: Any, **__: Any) -> AsyncIterator[Listing]:
        yield self._lists.pop(0)

    async def watch(self, *_: Any, version: str, **__: Any) -> AsyncIterator[tuple[str, Body]]:
        self.watched_from.append(version)
        if not self._watches:
            self.over.set()
            await asyncio.Event().wait()
        for event in self._watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


class Seen:
    """What a store was told."""

    def __init__(self) -> None:
        self.there: dict[str, str] = {}

    def put(self, body: Body) -> None:
        if body["metadata"]["uid"] == "odd":
            raise KeyError("status")
        self.there[body["metadata"]["uid"]] = body["metadata"]["resourceVersion"]

    def drop(self, uid: str) -> None:
        del self.there[uid]


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)


def thing(uid: str, version: int) -> Body:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}}


def listing(version: int, *uids: str) -> Listing:
    return Listing([thing(uid, 1) for uid in uids], str(version))


@contextmanager
def following(reflector: Reflector) -> Iterator[None]:
    task = asyncio.create_task(reflector.follow())
    try:
        yield
    finally:
        task.cancel()


def made(script: Script, seen: Seen) -> Reflector:
    client: Any = script
    return Reflector(client, Source(TASKS, seen.put, seen.drop), None)


async def test_a_watch_goes_on_where_the_last_one_ended() -> None:
    script = Script(
        [listing(10, "a", "b")],
        [
            [("MODIFIED", thing("a", 11)), ("DELETED", thing("b", 12))],
            [("BOOKMARK", {"metadata": {"resourceVersion": "20"}}), ApiUnreachable("cut off")],
            [("ADDED", thing("c", 21)), ApiError(500, "InternalError", "")],
        ],
    )
    seen = Seen()
    reflector = made(script, seen)
    with following(reflector):
        assert await reflector.read() == ({"a", "b"}, 10)
        await script.over.wait()
    assert script.watched_from == ["10", "12", "20", "21"]
    assert seen.there == {"a": "11", "c": "21"}
    assert reflector.lost == 0


async def test_after_missed_changes_nothing_is_heard_until_all_was_read_anew() -> None:
    script = Script([listing(10), listing(50, "a")], [[GONE], [("MODIFIED", thing("a", 51))]])
    seen = Seen()
    reflector = made(script, seen)
    with following(reflector):
        await reflector.read()
        for _ in range(10):
            await asyncio.sleep(0)
        assert reflector.lost == 1
        assert script.watched_from == ["10"]
        await reflector.read()
        await script.over.wait()
    assert script.watched_from == ["10", "50", "51"]
    assert seen.there == {"a": "51"}


async def test_a_version_that_is_refused_again_and_again_is_given_up() -> None:
    refused: list[tuple[str, Body] | Exception] = [ApiError(504, "Timeout", "")]
    script = Script([listing(10), listing(50)], [refused] * (module.MAX_FAILED_RESUMES + 1))
    reflector = made(script, Seen())
    with following(reflector):
        await reflector.read()
        for _ in range(10 * module.MAX_FAILED_RESUMES):
            await asyncio.sleep(0)
        assert (script.watched_from, reflector.lost) == (["10"] * module.MAX_FAILED_RESUMES, 1)
        await reflector.read()
        await script.over.wait()
    assert script.watched_from[module.MAX_FAILED_RESUMES :] == ["50", "50"]


async def test_a_list_in_between_does_not_set_a_watch_back() -> None:
    script = Script([listing(10, "a"), listing(12, "a")], [[("MODIFIED", thing("a", 15))]])
    reflector = made(script, Seen())
    with following(reflector):
        await reflector.read()
        await script.over.wait()
        assert await reflector.read() == ({"a"}, 12)
    assert script.watched_from == ["10", "15"]


async def test_an_object_that_cant_be_read_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    script = Script([listing(10, "odd", "a")], [[("ADDED", thing("odd", 11)), ("ADDED", thing("b", 12))]])
    seen = Seen()
    reflector = made(script, seen)
    with following(reflector):
        await reflector.read()
        await script.over.wait()
    assert seen.there == {"a": "1", "b": "12"}
    assert "skipping invalid asynctasks None/None" in caplog.text
