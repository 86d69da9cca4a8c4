"""A cluster as tests use it: apply, read, and wait for what is to come."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import urllib3
import yaml
from kubernetes import config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient

API = "asyncflow.dev/v1alpha1"
Body = dict[str, Any]
API_VERSIONS = {
    "AsyncTask": API,
    "TaskType": API,
    "Job": "batch/v1",
    "Deployment": "apps/v1",
    "Lease": "coordination.k8s.io/v1",
}

POD = """
terminationGracePeriodSeconds: 1
containers:
  - {name: main, image: none}
"""


@contextmanager
def aloud(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a fixture be heard: what is built for the first time takes minutes and says how far it is."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print()
        yield


class Refused(Exception):
    """The API server refused an object; the text is what it said."""


class Cluster:
    """A cluster by kubeconfig and context."""

    def __init__(self, kubeconfig: Path, context: str) -> None:
        load: Any = config.new_client_from_config
        api: Any = load(str(kubeconfig), context)
        api.configuration.retries = urllib3.Retry(3, status=0)
        self._api = api
        dynamic: Any = DynamicClient
        self._dynamic: Any = dynamic(api)
        self.context = context

    def close(self) -> None:
        """Give back the connections."""
        self._api.close()

    def kind(self, kind: str) -> Any:
        """Return the resource of a kind."""
        return self._dynamic.resources.get(api_version=API_VERSIONS.get(kind, "v1"), kind=kind)

    @contextmanager
    def namespace(self) -> Iterator["Namespace"]:
        """Make a namespace of its own for a test; it is deleted afterwards."""
        name = f"t-{uuid4().hex[:10]}"
        self.kind("Namespace").create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        try:
            yield Namespace(self, name)
        finally:
            self.kind("Namespace").delete(name=name)


class Namespace:
    """One namespace: what a test sees of the cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def create(self, body: Body) -> Body:
        """Create an object.

        Raises:
            Refused: the API server does not take it.
        """
        with _refusals():
            made: Body = self.cluster.kind(body["kind"]).create(body, namespace=self.name).to_dict()
        return made

    def task_type(self, name: str = "t", *, pod: Body | str = POD, **spec: Any) -> Body:
        """Create a TaskType; its retries come quickly unless said otherwise."""
        pod_spec = yaml.safe_load(pod) if isinstance(pod, str) else pod
        retry = {"backoff": {"initialSeconds": 1, "jitterPercent": 0}, **spec.pop("retry", {})}
        spec = {"template": {"spec": pod_spec}, "retry": retry, **spec}
        return self.create({"apiVersion": API, "kind": "TaskType", "metadata": {"name": name}, "spec": spec})

    def task(self, name: str, kind: str = "t", **spec: Any) -> Body:
        """Create an AsyncTask."""
        spec = {"taskTypeName": kind, **spec}
        return self.create({"apiVersion": API, "kind": "AsyncTask", "metadata": {"name": name}, "spec": spec})

    def get(self, kind: str, name: str) -> Body | None:
        """Read an object; None if it is not there."""
        try:
            found: Body = self.cluster.kind(kind).get(name=name, namespace=self.name).to_dict()
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return found

    def all(self, kind: str, labels: str | None = None) -> list[Body]:
        """Read all objects of a kind."""
        items: list[Body] = (
            self.cluster.kind(kind).get(namespace=self.name, label_selector=labels).to_dict()["items"]
        )
        return items

    def patch(self, kind: str, name: str, body: Body) -> Body:
        """Change fields of an object (merge patch)."""
        with _refusals():
            changed: Body = (
                self.cluster.kind(kind)
                .patch(
                    body={"metadata": {"name": name}, **body},
                    name=name,
                    namespace=self.name,
                    content_type="application/merge-patch+json",
                )
                .to_dict()
            )
        return changed

    def annotate(self, kind: str, name: str, annotation: str, text: str) -> Body:
        """Set an annotation, as ``kubectl annotate --overwrite`` does."""
        return self.patch(kind, name, {"metadata": {"name": name, "annotations": {annotation: text}}})

    def evict(self, pod: str) -> None:
        """Evict a pod, as a drain of its node does."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        self.cluster.kind("Pod").eviction.create(eviction, name=pod, namespace=self.name)

    def delete(self, kind: str, name: str, **options: Any) -> None:
        """Delete an object."""
        self.cluster.kind(kind).delete(name=name, namespace=self.name, body=options or None)

    def wait(
        self, kind: str, name: str, until: Callable[[Body], bool], *, seconds: float = 60, what: str = ""
    ) -> Body:
        """Wait until an object is as it should be, told by the API server's own watch.

        Raises:
            AssertionError: it did not come to that in time; the message shows the object.
        """
        last: Body | None = None
        for event, body in self.watch(kind, seconds=seconds, name=name):
            last = body
            if event != "DELETED" and until(body):
                return body
        raise AssertionError(
            f"{kind} {self.name}/{name}: {what or 'not as expected'} within {seconds} s:\n{_show(last)}"
        )

    def wait_any(self, kind: str, *, seconds: float = 30) -> Body:
        """Wait until there is an object of a kind; return it."""
        for event, body in self.watch(kind, seconds=seconds):
            if event != "DELETED":
                return body
        raise AssertionError(f"no {kind} within {seconds} s")

    def wait_gone(self, kind: str, name: str, *, seconds: float = 60) -> None:
        """Wait until an object is not there any more."""
        end = time.monotonic() + seconds
        while self.get(kind, name) is not None:
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{kind} {self.name}/{name} is still there after {seconds} s")
            for event, _ in self.watch(kind, seconds=left, name=name):
                if event == "DELETED":
                    break

    def wait_phase(self, name: str, *phases: str, seconds: float = 60) -> Body:
        """Wait until a task is in one of the phases."""
        return self.wait(
            "AsyncTask",
            name,
            lambda body: body["status"]["phase"] in phases,
            seconds=seconds,
            what=f"phase {' or '.join(phases)}",
        )

    def wait_ended(self, names: list[str], *, seconds: float = 120) -> dict[str, Body]:
        """Wait until all these tasks are in a terminal phase; return them by name."""
        waiting, ended = set(names), {}
        for event, body in self.watch("AsyncTask", seconds=seconds):
            name = body["metadata"]["name"]
            if (
                event != "DELETED"
                and name in waiting
                and body["status"]["phase"] not in ("Pending", "Running")
            ):
                ended[name] = body
                waiting.discard(name)
            if not waiting:
                return ended
        shown = "\n".join(_show(self.get("AsyncTask", name)) for name in sorted(waiting)[:3])
        raise AssertionError(
            f"{len(waiting)} of {len(names)} tasks did not end within {seconds} s, such as:\n{shown}"
        )

    def watch(self, kind: str, *, seconds: float, name: str | None = None) -> Iterator[tuple[str, Body]]:
        """Yield what is there and then what changes, for so many seconds."""
        end = time.monotonic() + seconds
        field = f"metadata.name={name}" if name else None
        while (left := end - time.monotonic()) > 0:
            try:
                stream = self.cluster.kind(kind).watch(
                    namespace=self.name, field_selector=field, timeout=max(1, int(left + 0.5))
                )
                for event in stream:
                    yield event["type"], event["raw_object"]
            except (urllib3.exceptions.HTTPError, ApiException):
                continue  # the API server was away, or the version too old: once more from the list

    def condition(
        self, kind: str, name: str, condition: str, *, status: str = "True", seconds: float = 30
    ) -> Body:
        """Wait until a condition has that status; return it."""
        found = self.wait(
            kind,
            name,
            lambda body: any(c["type"] == condition and c["status"] == status for c in _conditions(body)),
            seconds=seconds,
            what=f"condition {condition}={status}",
        )
        return next(c for c in _conditions(found) if c["type"] == condition)

    def wait_event(self, name: str, reason: str, *, seconds: float = 30) -> Body:
        """Wait for a Kubernetes event on an object."""
        for _, body in self.watch("Event", seconds=seconds):
            if body["involvedObject"].get("name") == name and body["reason"] == reason:
                return body
        raise AssertionError(f"no event {reason} on {name} within {seconds} s")


def _conditions(body: Body) -> list[Body]:
    conditions: list[Body] = (body.get("status") or {}).get("conditions") or []
    return conditions


def _show(body: Body | None) -> str:
    if body is None:
        return "(it is not there)"
    body.get("metadata", {}).pop("managedFields", None)
    return str(yaml.safe_dump(body, sort_keys=False))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        if error.status in (400, 403, 409, 422):
            body: Any = error.body
            raise Refused(body if isinstance(body, str) else body.decode()) from None
        raise
