"""What is read from the status of a pod."""

from datetime import timedelta
from typing import Any

import pytest

from asyncflow.api.meta import format_time
from asyncflow.core.views.pod import REJECTED_WITHIN, PodView, pod_view
from support.builders import T0, at, pod_body

SIDECAR = {"name": "proxy", "restartPolicy": "Always"}


def ended(code: int, name: str = "main", second: float = 10) -> dict[str, Any]:
    terminated = {"exitCode": code, "finishedAt": format_time(at(second))}
    return {"name": name, "containerID": f"containerd://{name}", "state": {"terminated": terminated}}


def waiting(reason: str = "PodInitializing", name: str = "main") -> dict[str, Any]:
    return {"name": name, "state": {"waiting": {"reason": reason}}}


def view(
    *,
    spec: dict[str, Any] | None = None,
    meta: dict[str, Any] | None = None,
    writer: str = "kubelet",
    written: float = 0,
    **status: Any,
) -> PodView:
    """Return the view of a pod whose phase was written by a manager at a second."""
    body = pod_body(startTime=format_time(T0), **status)
    body["spec"] |= spec or {}
    fields = {"manager": writer, "subresource": "status", "time": format_time(at(written))}
    body["metadata"]["managedFields"] = [{**fields, "fieldsV1": {"f:status": {"f:phase": {}}}}]
    body["metadata"] |= meta or {}
    found = pod_view(body)
    assert found is not None
    return found


class TestExitCode:
    @pytest.mark.parametrize("code", [0, 2, 75])
    def test_the_main_container_decides_and_not_a_sidecar(self, code: int) -> None:
        found = view(
            spec={"initContainers": [SIDECAR]},
            initContainerStatuses=[ended(143, "proxy", 12)],
            containerStatuses=[ended(code)],
        )
        assert (found.exit_code, found.end_time, found.dead) == (code, at(10), True)

    def test_a_failed_init_container_decides_before_a_main_container_has_started(self) -> None:
        found = view(
            spec={"initContainers": [{"name": "first"}]},
            initContainerStatuses=[ended(3, "first")],
            containerStatuses=[waiting()],
        )
        assert (found.exit_code, found.dead) == (3, True)

    def test_of_several_main_containers_the_first_failure_counts(self) -> None:
        found = view(
            spec={"containers": [{"name": "a"}, {"name": "b"}]},
            containerStatuses=[ended(0, "a"), ended(9, "b")],
        )
        assert found.exit_code == 9


class TestRejected:
    def test_a_pod_that_its_kubelet_rejected_never_started(self) -> None:
        found = view(reason="OutOfcpu", message="Pod was rejected")
        assert found.rejected

    @pytest.mark.parametrize(
        "known",
        [
            {"written": REJECTED_WITHIN.total_seconds() + 1},
            {"writer": "kube-controller-manager"},
            {"phase": "Running"},
            {"reason": ""},
            {"containerStatuses": [ended(0)]},
            {"containerStatuses": [{"state": {"waiting": {}}, "lastState": {"terminated": {"exitCode": 1}}}]},
        ],
        ids=["by a restarted kubelet", "by a controller", "running", "no reason", "ended", "restarted"],
    )
    def test_nothing_else_is_a_rejection(self, known: dict[str, Any]) -> None:
        assert not view(**{"reason": "NodeAffinity", **known}).rejected


class TestDead:
    def test_a_container_that_waits_in_a_pod_that_its_kubelet_failed_never_ran(self) -> None:
        assert view(containerStatuses=[waiting("ImagePullBackOff")]).dead

    @pytest.mark.parametrize(
        "known",
        [
            {"writer": "kube-controller-manager"},
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}]},
            {"phase": "Running"},
            {"containerStatuses": []},
        ],
        ids=["by the pod garbage collector", "by its condition", "running", "not reported"],
    )
    def test_in_any_other_pod_it_may_still_run(self, known: dict[str, Any]) -> None:
        assert not view(**{"containerStatuses": [waiting()], **known}).dead

    def test_a_container_that_runs_is_not_dead_whatever_the_phase(self) -> None:
        assert not view(containerStatuses=[{"name": "main", "state": {"running": {}}}]).dead


class TestInterrupted:
    @pytest.mark.parametrize(("deleted", "interrupted"), [(5, True), (10, True), (11, False)])
    def test_a_pod_deleted_before_its_containers_ended_was_interrupted(
        self, deleted: float, interrupted: bool
    ) -> None:
        grace = 30
        meta = {
            "deletionTimestamp": format_time(at(deleted) + timedelta(seconds=grace)),
            "deletionGracePeriodSeconds": grace,
        }
        assert view(meta=meta, phase="Succeeded", containerStatuses=[ended(0)]).interrupted is interrupted

    def test_so_was_one_with_a_disruption_announced_before(self) -> None:
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "lastTransitionTime": format_time(at(9)),
        }
        found = view(phase="Succeeded", conditions=[condition], containerStatuses=[ended(0)])
        assert (found.interrupted, found.disruption) == (True, "EvictionByEvictionAPI")
        evicted = view(reason="Evicted", conditions=[condition], containerStatuses=[ended(137)])
        assert evicted.disruption == "Evicted"

    def test_an_end_by_itself_is_none(self) -> None:
        assert not view(phase="Succeeded", containerStatuses=[ended(0)]).interrupted


class TestPreparing:
    @pytest.mark.parametrize(
        ("ready", "expected"),
        [("True", "pulling the image"), ("False", "mounting volumes or creating the sandbox")],
    )
    def test_it_says_what_the_kubelet_does_before_the_first_container(
        self, ready: str, expected: str
    ) -> None:
        conditions = [{"type": "PodReadyToStartContainers", "status": ready}]
        found = view(phase="Pending", conditions=conditions, containerStatuses=[waiting("ContainerCreating")])
        assert (found.preparing, found.started) == (expected, False)

    def test_once_one_has_started_it_says_nothing(self) -> None:
        running = {"name": "main", "containerID": "containerd://1", "state": {"running": {}}}
        found = view(phase="Running", containerStatuses=[running])
        assert (found.preparing, found.started) == ("", True)
