"""The fake API server does what the real one does, and both clients see the same of it."""

from collections.abc import AsyncIterator

import pytest

from asyncflow.api import names
from asyncflow.kube.client import (
    CORE_EVENTS,
    JOBS,
    LEASES,
    PODS,
    TASKS,
    ApiClient,
    ApiError,
    ApiUnreachable,
    Body,
)
from support.builders import T0
from support.fake_api import FakeApiServer, FakeClient
from support.fake_http import connected, serving
from support.object_store import FOREGROUND

NS = "shop"


@pytest.fixture
def api() -> FakeApiServer:
    return FakeApiServer(lambda: T0)


@pytest.fixture(params=["in memory", "over HTTP"])
async def client(api: FakeApiServer, request: pytest.FixtureRequest) -> AsyncIterator[ApiClient]:
    if request.param == "in memory":
        yield FakeClient(api)
        return
    async with serving(api) as http, connected(http) as made:
        yield made


def named(name: str, **meta: object) -> Body:
    return {"metadata": {"name": name, **meta}, "spec": {}}


def version(body: Body) -> str:
    return str(body["metadata"]["resourceVersion"])


async def test_an_object_is_created_once_with_what_only_the_server_says(client: ApiClient) -> None:
    made = await client.create(TASKS, NS, {**named("a", uid="mine"), "status": {"phase": "Failed"}})
    meta = made["metadata"]
    assert (meta["namespace"], meta["generation"], "status" in made) == (NS, 1, False)
    assert meta["creationTimestamp"] == "2026-01-01T12:00:00Z"
    assert meta["uid"] not in ("", "mine")
    for dry_run in (True, False):
        with pytest.raises(ApiError) as refused:
            await client.create(TASKS, NS, named("a"), dry_run=dry_run)
        assert refused.value.already_exists
    other = await client.create(TASKS, "other", named("a"))
    assert int(version(other)) > int(version(made))
    assert await client.get(TASKS, NS, "a") == made


async def test_a_dry_run_stores_nothing(api: FakeApiServer, client: ApiClient) -> None:
    made = await client.create(JOBS, NS, named("a"), dry_run=True)
    assert (made["metadata"]["namespace"], "resourceVersion" in made["metadata"]) == (NS, False)
    with pytest.raises(ApiError) as refused:
        await client.get(JOBS, NS, "a")
    assert refused.value.not_found
    assert api.version == 100


@pytest.mark.parametrize("stale", [{"uid": "another"}, {"resourceVersion": "1"}])
async def test_a_patch_of_what_has_changed_is_a_conflict(client: ApiClient, stale: Body) -> None:
    made = await client.create(TASKS, NS, named("a"))
    with pytest.raises(ApiError) as refused:
        await client.patch(TASKS, NS, "a", {"metadata": stale, "spec": {"suspend": True}})
    assert refused.value.conflict
    assert await client.get(TASKS, NS, "a") == made


async def test_status_and_spec_are_written_apart(client: ApiClient) -> None:
    await client.create(TASKS, NS, named("a"))
    both = {"spec": {"suspend": True}, "status": {"phase": "Running"}}
    written = await client.patch(TASKS, NS, "a", both, subresource="status")
    assert (written["spec"], written["status"]) == ({}, {"phase": "Running"})
    assert written["metadata"]["generation"] == 1
    written = await client.patch(TASKS, NS, "a", {**both, "status": {"phase": "Failed"}})
    assert (written["spec"], written["status"]) == ({"suspend": True}, {"phase": "Running"})
    assert written["metadata"]["generation"] == 2


async def test_a_patch_merges_and_one_that_changes_nothing_makes_no_version(client: ApiClient) -> None:
    await client.create(TASKS, NS, {"metadata": {"name": "a"}, "spec": {"a": {"b": 1, "c": [1, 2]}, "d": 1}})
    written = await client.patch(TASKS, NS, "a", {"spec": {"a": {"b": None, "c": [3]}, "e": {"f": None}}})
    assert written["spec"] == {"a": {"c": [3]}, "d": 1, "e": {}}
    assert await client.patch(TASKS, NS, "a", {"spec": {"d": 1}}) == written


async def test_an_update_names_the_version_that_it_was_made_of(client: ApiClient) -> None:
    first = await client.create(LEASES, NS, named("a"))
    second = await client.replace(LEASES, NS, "a", {**first, "spec": {"holderIdentity": "me"}})
    with pytest.raises(ApiError) as refused:
        await client.replace(LEASES, NS, "a", first)
    assert refused.value.conflict
    with pytest.raises(ApiError, match="422 Invalid"):
        await client.replace(LEASES, NS, "a", named("a"))
    assert await client.get(LEASES, NS, "a") == second


async def test_a_deletion_has_its_preconditions(client: ApiClient) -> None:
    made = await client.create(TASKS, NS, named("a"))
    uid = made["metadata"]["uid"]
    for wrong in ({"uid": "another"}, {"uid": uid, "version": "1"}):
        with pytest.raises(ApiError) as refused:
            await client.delete(TASKS, NS, "a", **wrong)
        assert refused.value.conflict
    await client.delete(TASKS, NS, "a", uid=uid, version=version(made))
    with pytest.raises(ApiError) as refused:
        await client.delete(TASKS, NS, "a", uid=uid)
    assert refused.value.not_found


async def test_an_object_with_a_finalizer_goes_when_that_is_taken_off(
    api: FakeApiServer, client: ApiClient
) -> None:
    made = await client.create(TASKS, NS, named("a", finalizers=["example.com/kept"]))
    for _ in range(2):
        await client.delete(TASKS, NS, "a", uid=made["metadata"]["uid"])
    kept = await client.get(TASKS, NS, "a")
    assert kept["metadata"]["deletionTimestamp"] == "2026-01-01T12:00:00Z"
    assert int(version(kept)) == int(version(made)) + 1, "the second deletion changed nothing"
    await client.patch(TASKS, NS, "a", {"metadata": {"finalizers": None}})
    assert "a" not in api.objects(TASKS, NS)


async def test_the_policy_of_a_deletion_overrides_the_finalizers_that_say_it(
    api: FakeApiServer, client: ApiClient
) -> None:
    """As in ``shouldDeleteDependents``: with ``Background`` a Job goes at once, whatever runs of it."""
    made = await client.create(JOBS, NS, named("a", finalizers=[FOREGROUND]))
    api.delete(JOBS, NS, "a")
    assert (await client.get(JOBS, NS, "a"))["metadata"]["finalizers"] == [FOREGROUND]
    await client.delete(JOBS, NS, "a", uid=made["metadata"]["uid"])
    assert "a" not in api.objects(JOBS, NS)


async def test_a_pod_at_a_node_goes_when_its_kubelet_says_so(api: FakeApiServer, client: ApiClient) -> None:
    for name in ("bound", "unbound"):
        pod = await client.create(PODS, NS, {"metadata": {"name": name}, "spec": {}})
        assert pod["status"] == {"phase": "Pending"}
    spec = {"nodeName": "n1", "terminationGracePeriodSeconds": 5}
    uid = (await client.patch(PODS, NS, "bound", {"spec": spec}))["metadata"]["uid"]
    await client.delete(PODS, NS, "bound", uid=uid)
    await client.delete(PODS, NS, "unbound", uid=api.get(PODS, NS, "unbound")["metadata"]["uid"])
    assert set(api.objects(PODS, NS)) == {"bound"}
    meta = (await client.get(PODS, NS, "bound"))["metadata"]
    assert (meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"]) == ("2026-01-01T12:00:05Z", 5)
    await client.delete(PODS, NS, "bound", uid=uid)
    api.delete(PODS, NS, "bound", grace_seconds=9)
    assert await client.get(PODS, NS, "bound") == {**api.get(PODS, NS, "bound"), "metadata": meta}
    api.delete(PODS, NS, "bound", grace_seconds=0)
    assert set(api.objects(PODS, NS)) == set()


@pytest.mark.parametrize(
    ("labels", "fields", "found"),
    [
        (names.ATTEMPT_SELECTOR, None, ["a", "b"]),
        (f"{names.MANAGED_BY_LABEL}!=asyncflow", None, ["c"]),
        (f"!{names.TASK_UID_LABEL}", None, ["c"]),
        (f"{names.TASK_UID_LABEL}=1", "status.phase!=Failed", ["a"]),
        (None, "status.phase=Failed", ["b"]),
        (None, "status.phase!=Succeeded,status.phase!=Failed", ["a", "c"]),
        (None, "metadata.name=c", ["c"]),
    ],
)
async def test_a_list_is_in_order_and_of_what_the_selectors_match(
    api: FakeApiServer, client: ApiClient, labels: str | None, fields: str | None, found: list[str]
) -> None:
    ours = {names.MANAGED_BY_LABEL: "asyncflow", names.TASK_UID_LABEL: "1"}
    for name in ("c", "b", "a"):
        api.create(PODS, NS, named(name, **({} if name == "c" else {"labels": ours})))
    api.patch(PODS, NS, "b", {"status": {"phase": "Failed"}}, subresource="status")
    listing = await client.list(PODS, labels=labels, fields=fields)
    assert [body["metadata"]["name"] for body in listing.items] == found
    assert listing.resource_version == str(api.version)
    assert (await client.list(PODS, "other", labels=labels, fields=fields)).items == []


async def test_only_some_fields_can_be_selected_by(client: ApiClient) -> None:
    assert (
        await client.list(CORE_EVENTS, NS, fields="involvedObject.kind=Job,reason=FailedCreate")
    ).items == []
    with pytest.raises(ApiError, match="400 BadRequest: field label not supported"):
        await client.list(TASKS, fields="spec.priority=1")


async def test_a_watch_tells_what_begins_and_ceases_to_match(api: FakeApiServer, client: ApiClient) -> None:
    before = str(api.version)
    for name in ("a", "b"):
        api.create(PODS, NS, named(name))
        api.patch(PODS, NS, name, {"status": {"phase": "Failed"}}, subresource="status")
    api.patch(PODS, NS, "a", {"metadata": {"labels": {"l": "1"}}})
    api.patch(PODS, NS, "a", {"status": {"phase": "Unknown"}}, subresource="status")
    ceased = api.version
    api.delete(PODS, NS, "b")
    told: list[tuple[str, Body]] = []
    async for event in client.watch(PODS, NS, version=before, fields="status.phase=Failed"):
        told.append(event)
        if len(told) == 5:
            api.send_bookmarks()
            api.close_watches()
    assert [(event, body["metadata"]["name"], body["status"]["phase"]) for event, body in told[:5]] == [
        ("ADDED", "a", "Failed"),
        ("ADDED", "b", "Failed"),
        ("MODIFIED", "a", "Failed"),
        ("DELETED", "a", "Failed"),
        ("DELETED", "b", "Failed"),
    ]
    assert [version(body) for _, body in told[3:]] == [str(ceased), str(api.version), str(api.version)]
    assert told[5][0] == "BOOKMARK"


async def test_a_fault_is_before_or_after_the_effect(api: FakeApiServer, client: ApiClient) -> None:
    for applied in (False, True):
        api.fail("create", ApiUnreachable("no answer"), name="a", applied=applied)
        await client.create(LEASES, NS, named("b" if applied else "c"))
        with pytest.raises(ApiUnreachable):
            await client.create(LEASES, NS, named("a"))
        assert ("a" in api.objects(LEASES, NS)) is applied
    assert client.unanswered == 2
    assert [request.name for request in api.requests] == ["c", "a", "b", "a"]


async def test_a_group_that_is_not_served_is_known_as_such(client: ApiClient) -> None:
    assert await client.served(names.GROUP, names.VERSION) == {names.TASK_PLURAL, names.TYPE_PLURAL}
    assert await client.served("example.com", "v1") == set()
