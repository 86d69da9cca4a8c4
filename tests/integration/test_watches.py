"""kopf's watches: what interrupts them loses nothing, and kopf leaves no trace on any object."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters.controlplane import ControlPlane
from support.cluster import Body, Namespace
from support.faulty_proxy import FaultyProxy
from support.operator_process import OperatorProcess

CAUGHT_UP_SECONDS = 90
"""75 s are promised; the rest is for a busy machine."""


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[FaultyProxy]:
    with FaultyProxy(control_plane).running() as made:
        yield made


@pytest.fixture
def behind(
    ns: Namespace,
    proxy: FaultyProxy,
    operator: OperatorProcess,
    operator_kubeconfig: Path,
    tmp_path: Path,
) -> Iterator[OperatorProcess]:
    """An operator behind the proxy, in place of the usual one."""
    operator.stop()
    made = OperatorProcess(
        proxy.kubeconfig(operator_kubeconfig, tmp_path / "kubeconfig"), tmp_path / "operator.log"
    )
    try:
        made.start()
        yield made
    finally:
        code = made.stop()
    assert code == 0, made.log.read_text()[-5000:]


def counted(ns: Namespace, pending: int, *, seconds: float) -> None:
    ns.wait(
        "TaskType",
        "t",
        lambda body: body["status"].get("counts", {}).get("pending") == pending,
        seconds=seconds,
        what=f"{pending} pending tasks counted",
    )


def lease_transitions(ns: Namespace) -> int:
    found: Body = (
        ns.cluster.kind("Lease").get(name="asyncflow-operator", namespace="asyncflow-system").to_dict()
    )
    transitions: int = found["spec"]["leaseTransitions"]
    return transitions


class TestInterrupted:
    def test_a_watch_that_is_cut_is_resumed_without_a_list(
        self, ns: Namespace, proxy: FaultyProxy, behind: OperatorProcess
    ) -> None:
        ns.task_type()
        ns.task("a")
        ns.wait_phase("a", "Succeeded")
        proxy.lists.clear()
        proxy.cut("asynctasks", "jobs", "tasktypes", "leases")
        ns.task("b")
        ns.wait_phase("b", "Succeeded", seconds=20)
        assert "asynctasks" not in proxy.lists

    @pytest.mark.timeout(200)
    def test_a_silent_watch_is_noticed_and_caught_up(
        self, ns: Namespace, proxy: FaultyProxy, behind: OperatorProcess
    ) -> None:
        ns.task_type()
        ns.task("kept", suspend=True)
        ns.task("deleted", suspend=True)
        counted(ns, 2, seconds=30)
        proxy.silence("asynctasks", "jobs", "tasktypes", "leases")
        ns.task("a")
        ns.delete("AsyncTask", "deleted")
        ns.wait_phase("a", "Succeeded", seconds=CAUGHT_UP_SECONDS)
        counted(ns, 1, seconds=30)

    def test_deletions_before_a_list_that_kopf_makes_again_are_noticed(
        self, ns: Namespace, proxy: FaultyProxy, behind: OperatorProcess
    ) -> None:
        ns.task_type()
        for name in ("kept", "deleted"):
            ns.task(name, suspend=True)
        counted(ns, 2, seconds=30)
        proxy.hold("asynctasks")
        ns.delete("AsyncTask", "deleted")
        proxy.release(error=410)
        counted(ns, 1, seconds=60)
        ns.task("a")
        ns.wait_phase("a", "Succeeded", seconds=20)

    def test_an_error_event_does_not_end_the_operator(
        self, ns: Namespace, proxy: FaultyProxy, behind: OperatorProcess
    ) -> None:
        ns.task_type()
        ns.task("deleted", suspend=True)
        counted(ns, 1, seconds=30)
        before = lease_transitions(ns)
        proxy.hold("asynctasks")
        ns.delete("AsyncTask", "deleted")
        proxy.release(error=500)
        ns.task("a")
        ns.wait_phase("a", "Succeeded", seconds=60)
        counted(ns, 0, seconds=60)
        ns.task("b")  # no comparison is due any more: a watch tells of it
        ns.wait_phase("b", "Succeeded", seconds=30)
        assert behind.probe("/healthz") == (200, "ok")
        assert lease_transitions(ns) == before, "the leader went on leading"

    def test_a_refused_list_is_asked_for_again(
        self, ns: Namespace, proxy: FaultyProxy, behind: OperatorProcess
    ) -> None:
        ns.task_type()
        ns.task("a", payload={"seconds": 4})
        ns.wait("Job", "a-0-1", lambda _: True)
        proxy.refuse_lists(403, "asynctasks", "jobs")
        proxy.send_error(410, "asynctasks")
        time.sleep(5)  # kopf asks again and again meanwhile
        proxy.refuse_lists(None, "asynctasks", "jobs")
        ns.wait_phase("a", "Succeeded", seconds=60)
        assert behind.probe("/healthz") == (200, "ok")


@pytest.mark.timeout(400)
def test_two_minutes_without_etcd_lose_nothing(
    ns: Namespace, operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    ns.task_type()
    ns.task("a", payload={"seconds": 20})
    ns.wait("Job", "a-0-1", lambda _: True)
    pid, etcd = operator.pid, control_plane.pids["etcd"]
    os.kill(etcd, signal.SIGSTOP)
    try:
        time.sleep(120)
        assert operator.probe("/healthz")[0] == 200
    finally:
        os.kill(etcd, signal.SIGCONT)
    ns.wait_phase("a", "Succeeded", seconds=CAUGHT_UP_SECONDS)
    ns.task("b")
    ns.wait_phase("b", "Succeeded", seconds=60)
    assert operator.pid == pid
    assert operator.probe("/readyz") == (200, "ok")


def test_no_annotation_and_no_finalizer_appears_on_any_object(
    ns: Namespace, operator: OperatorProcess
) -> None:
    ns.task_type()
    ns.task("a", lockKey="k")
    ns.task("held", suspend=True)
    ns.task("retried", payload={"exits": [1, 0]})
    lease = ns.wait_any("Lease")
    ns.wait_ended(["a", "retried"])
    ns.patch("TaskType", "t", {"spec": {"maxConcurrent": 3}})
    ns.patch("AsyncTask", "held", {"spec": {"priority": 7}})
    counted(ns, 1, seconds=30)
    objects: list[Body] = [lease, *ns.all("TaskType"), *ns.all("AsyncTask")]
    for body in objects:
        meta = body["metadata"]
        assert "finalizers" not in meta, body
        assert set(meta.get("annotations", {})) <= {"asyncflow.dev/lock-key"}, body
    for body in ns.all("Job"):
        meta = body["metadata"]
        assert all(name.startswith(("asyncflow.dev/", "batch.kubernetes.io/")) for name in _annotations(body))
        assert set(meta.get("finalizers", ())) <= {"foregroundDeletion"}
    for body in ns.all("Pod"):
        assert not any("kopf" in name for name in _annotations(body))


def _annotations(body: Body) -> dict[str, Any]:
    found: dict[str, Any] = body["metadata"].get("annotations") or {}
    return found
