"""Tasks from apply to a terminal phase, on a real API server and Job controller (kwok plays the kubelet)."""

import calendar
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from support.cluster import Cluster, Namespace
from support.operator_process import OperatorProcess

TASK_LABEL = "asyncflow.dev/task"


def attempts(body: dict[str, Any]) -> list[tuple[str, int | None]]:
    return [(a["outcome"], a.get("exitCode")) for a in body["status"]["attempts"]]


class TestOutcomes:
    def test_success(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a")
        body = ns.wait_phase("a", "Succeeded", "Failed")
        assert attempts(body) == [("Succeeded", None)]
        assert ns.condition("AsyncTask", "a", "Complete")["reason"] == "Completed"
        (entry,) = body["status"]["attempts"]
        assert (entry["jobName"], entry["proofOfDeath"]) == ("a-0-1", "Node")

    def test_failures_are_retried_until_one_succeeds(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", payload={"exits": [1, 1, 0]})
        body = ns.wait_phase("a", "Succeeded", "Failed")
        assert attempts(body) == [("Failed", 1), ("Failed", 1), ("Succeeded", None)]
        assert body["status"]["failures"] == 2

    def test_failures_are_bounded(self, ns: Namespace) -> None:
        ns.task_type(retry={"maxRetries": 1})
        ns.task("a", payload={"exits": [3]})
        body = ns.wait_phase("a", "Succeeded", "Failed")
        assert attempts(body) == [("Failed", 3), ("Failed", 3)]
        assert body["status"]["reason"] == "MaxRetriesExceeded"
        assert "exit code 3" in ns.wait_event("a", "MaxRetriesExceeded")["message"]

    def test_a_time_out_draws_on_its_own_budget(self, ns: Namespace) -> None:
        ns.task_type(deadlines={"attemptSeconds": 1}, retry={"maxTimeouts": 1, "maxRetries": 0})
        ns.task("a", payload={"hang": True})
        body = ns.wait_phase("a", "Succeeded", "Failed")
        assert attempts(body) == [("TimedOut", 137), ("TimedOut", 137)]
        assert body["status"]["reason"] == "MaxTimeoutsExceeded"
        assert "failures" not in body["status"]

    def test_a_final_exit_code(self, ns: Namespace) -> None:
        ns.task_type(retry={"nonRetriableExitCodes": [3]})
        ns.task("a", payload={"exits": [3]})
        assert attempts(ns.wait_phase("a", "Failed")) == [("Failed", 3)]

    def test_the_total_deadline_ends_a_running_task(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", payload={"hang": True}, deadlines={"totalSeconds": 3})
        body = ns.wait_phase("a", "Failed")
        assert body["status"]["reason"] == "TotalDeadlineExceeded"
        assert [a["outcome"] for a in body["status"]["attempts"]] == ["TimedOut"]

    def test_not_before(self, ns: Namespace) -> None:
        ns.task_type()
        moment = time.time() + 4
        ns.task("a", notBefore=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)))
        assert ns.condition("AsyncTask", "a", "Waiting")["reason"] == "NotBefore"
        ns.wait_phase("a", "Succeeded")
        assert time.time() >= int(moment)


class TestWrites:
    def test_a_short_task_costs_its_job_and_one_status_write(self, ns: Namespace) -> None:
        ns.task_type(maxConcurrent=50)
        names = [f"a-{n}" for n in range(10)]
        for name in names:
            ns.task(name)
        writes, open_tasks = Counter[str](), set(names)
        for event, body in ns.watch("AsyncTask", seconds=60):
            name = body["metadata"]["name"]
            writes[name] += event == "MODIFIED"
            if body["status"]["phase"] == "Succeeded":
                open_tasks.discard(name)
            if not open_tasks:
                break
        short = [job["metadata"]["labels"][TASK_LABEL] for job in ns.all("Job") if _seconds(job) <= 2]
        assert short, "no attempt was short: this machine is too slow to tell"
        assert {name: writes[name] for name in short} == dict.fromkeys(short, 1)


def _seconds(job: dict[str, Any]) -> float:
    """Return how long a Job lasted from its creation, in seconds."""
    ended = datetime.fromisoformat(job["status"]["completionTime"])
    return (ended - datetime.fromisoformat(job["metadata"]["creationTimestamp"])).total_seconds()


class TestIntervention:
    def test_cancel_stops_the_process(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", payload={"hang": True})
        ns.wait_phase("a", "Running")
        ns.patch("AsyncTask", "a", {"spec": {"cancel": True}})
        body = ns.wait_phase("a", "Cancelled", "Failed", "Succeeded")
        assert body["status"]["phase"] == "Cancelled"
        (entry,) = body["status"]["attempts"]
        assert (entry["outcome"], entry["proofOfDeath"]) == ("Cancelled", "Node")
        (pod,) = ns.all("Pod")
        assert pod["status"]["phase"] == "Failed"
        assert "terminated" in pod["status"]["containerStatuses"][0]["state"]

    def test_deleting_a_task_deletes_its_job_and_pod(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", payload={"hang": True})
        ns.wait_phase("a", "Running")
        (pod,) = ns.all("Pod")
        ns.delete("AsyncTask", "a")
        ns.wait_gone("Job", "a-0-1")
        ns.wait_gone("Pod", pod["metadata"]["name"])

    def test_a_suspended_task_waits_and_goes_on(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", suspend=True)
        assert ns.condition("AsyncTask", "a", "Waiting")["reason"] == "Suspended"
        ns.patch("AsyncTask", "a", {"spec": {"suspend": False}})
        ns.wait_phase("a", "Succeeded")

    def test_a_suspended_type_starts_nothing_and_lets_running_attempts_end(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("running", payload={"seconds": 8})
        ns.wait_phase("running", "Running")
        ns.patch("TaskType", "t", {"spec": {"suspend": True}})
        ns.condition("TaskType", "t", "Suspended")
        ns.task("waiting")
        assert ns.condition("AsyncTask", "waiting", "Waiting")["reason"] == "TaskTypeSuspended"
        ns.wait_phase("running", "Succeeded")
        assert [j["metadata"]["labels"][TASK_LABEL] for j in ns.all("Job")] == ["running"]
        ns.patch("TaskType", "t", {"spec": {"suspend": False}})
        ns.wait_phase("waiting", "Succeeded")

    def test_a_job_that_someone_deletes_is_judged_by_its_pod(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", payload={"seconds": 8})
        ns.wait_phase("a", "Running")
        ns.delete("Job", "a-0-1", propagationPolicy="Background")
        body = ns.wait_phase("a", "Succeeded", "Failed")
        assert [a["outcome"] for a in body["status"]["attempts"]] == ["Unknown", "Succeeded"]
        assert body["status"]["attempts"][0]["proofOfDeath"] == "Node"


class TestSlots:
    def test_never_more_than_the_limit(self, ns: Namespace) -> None:
        ns.task_type(maxConcurrent=3)
        names = [f"a-{n}" for n in range(15)]
        for name in names:
            ns.task(name, payload={"seconds": 0.5})
        live: set[str] = set()
        most, waiting = 0, set(names)
        for event, job in ns.watch("Job", seconds=60):
            uid = job["metadata"]["uid"]
            if event == "DELETED" or _finished(job):
                live.discard(uid)
                if _finished(job):
                    waiting.discard(job["metadata"]["labels"][TASK_LABEL])
            else:
                live.add(uid)
            most = max(most, len(live))
            if not waiting:
                break
        assert not waiting
        assert most == 3

    def test_order_is_by_priority_then_by_age(self, ns: Namespace) -> None:
        ns.task_type(maxConcurrent=1, suspend=True)
        for name, priority in (("old", 0), ("low", -5), ("young", 0), ("high", 5)):
            made = ns.task(name, priority=priority)
            ns.condition("AsyncTask", name, "Waiting")
            _wait_past(made["metadata"]["creationTimestamp"])
        ns.patch("TaskType", "t", {"spec": {"suspend": False}})
        ns.wait_ended(["old", "low", "young", "high"])
        jobs = sorted(ns.all("Job"), key=lambda job: job["status"]["startTime"])
        assert [job["metadata"]["labels"][TASK_LABEL] for job in jobs] == ["high", "old", "young", "low"]

    def test_a_raised_limit_takes_hold_at_once(self, ns: Namespace) -> None:
        ns.task_type(maxConcurrent=1)
        for n in range(3):
            ns.task(f"a-{n}", payload={"hang": True})
        ns.wait_phase("a-0", "Running")
        ns.patch("TaskType", "t", {"spec": {"maxConcurrent": 3}})
        for n in range(3):
            ns.wait_phase(f"a-{n}", "Running")


def _wait_for_ended(ns: Namespace, count: int) -> None:
    """Wait until so many tasks have succeeded."""
    done: set[str] = set()
    for _, body in ns.watch("AsyncTask", seconds=60):
        if body["status"]["phase"] == "Succeeded":
            done.add(body["metadata"]["name"])
        if len(done) >= count:
            return
    raise AssertionError(f"only {len(done)} tasks succeeded within 60 s")


def _wait_past(creation: str) -> None:
    """Let the second of a creation pass: objects of one second have no order by age."""
    second = calendar.timegm(time.strptime(creation, "%Y-%m-%dT%H:%M:%SZ"))
    time.sleep(max(0, second + 1.05 - time.time()))


def _finished(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


class TestNamespaces:
    def test_an_operator_for_some_namespaces_leaves_the_others_alone(
        self,
        ns: Namespace,
        cluster: Cluster,
        operator: OperatorProcess,
        operator_kubeconfig: Path,
        tmp_path: Path,
    ) -> None:
        operator.stop()
        own = OperatorProcess(
            operator_kubeconfig, tmp_path / "operator.log", ASYNCFLOW_NAMESPACES=f'["{ns.name}"]'
        )
        own.start()
        try:
            with cluster.namespace() as other:
                for place in (other, ns):
                    place.task_type()
                    place.task("a")
                ns.wait_phase("a", "Succeeded")
                assert other.all("Job") == []
                assert [t["status"]["phase"] for t in other.all("AsyncTask")] == ["Pending"]
        finally:
            assert own.stop() == 0


class TestOperatorLoss:
    def test_order_is_kept_across_a_restart(self, ns: Namespace, operator: OperatorProcess) -> None:
        ns.task_type(maxConcurrent=1)
        ns.task("first", payload={"seconds": 3})
        ns.wait("Job", "first-0-1", lambda _: True)
        operator.kill()
        for name, priority in (("a-low", -5), ("b-mid", 0), ("c-high", 5)):
            ns.task(name, priority=priority)
        ns.wait("Job", "first-0-1", _finished)
        operator.start()
        ns.wait_ended(["first", "a-low", "b-mid", "c-high"])
        jobs = sorted(ns.all("Job"), key=lambda job: job["status"]["startTime"])
        assert [job["metadata"]["labels"][TASK_LABEL] for job in jobs] == [
            "first",
            "c-high",
            "b-mid",
            "a-low",
        ]

    def test_tasks_that_are_deleted_before_their_turn_hold_up_nobody(self, ns: Namespace) -> None:
        ns.task_type(maxConcurrent=1)
        for n in range(20):
            ns.task(f"gone-{n}")
        ns.patch("TaskType", "t", {"spec": {"maxConcurrent": 2}})
        for n in range(20):
            ns.delete("AsyncTask", f"gone-{n}")
        ns.task("a")
        ns.wait_phase("a", "Succeeded", seconds=120)

    def test_killed_outright_it_loses_nothing_and_starts_nothing_twice(
        self, ns: Namespace, operator: OperatorProcess
    ) -> None:
        ns.task_type(maxConcurrent=5)
        names = [f"a-{n}" for n in range(20)]
        for n, name in enumerate(names):
            ns.task(name, payload={"seconds": 0.3, "exits": [1, 0] if n % 4 == 0 else [0]})
        for ended in (3, 8, 13):
            _wait_for_ended(ns, ended)
            operator.kill()
            operator.start()
        bodies = ns.wait_ended(names)
        for n, name in enumerate(names):
            expected = [("Failed", 1), ("Succeeded", None)] if n % 4 == 0 else [("Succeeded", None)]
            assert attempts(bodies[name]) == expected, name
        made = Counter(
            e["involvedObject"]["name"] for e in ns.all("Event") if e["reason"] == "SuccessfulCreate"
        )
        wanted = [f"{name}-0-{k}" for n, name in enumerate(names) for k in ((1, 2) if n % 4 == 0 else (1,))]
        assert made == Counter(wanted), "each attempt had one pod"

    def test_a_task_that_ended_while_it_was_away_is_recorded(
        self, ns: Namespace, operator: OperatorProcess
    ) -> None:
        ns.task_type()
        ns.task("a", payload={"seconds": 2})
        ns.task("b", payload={"seconds": 2, "exits": [3, 0]})
        for name in ("a", "b"):
            ns.wait("Job", f"{name}-0-1", lambda _: True)
        operator.kill()
        for name in ("a", "b"):
            ns.wait("Job", f"{name}-0-1", _finished)
        operator.start()
        assert attempts(ns.wait_phase("a", "Succeeded", "Failed")) == [("Succeeded", None)]
        assert attempts(ns.wait_phase("b", "Succeeded", "Failed")) == [("Failed", 3), ("Succeeded", None)]

    def test_it_stops_in_order(self, ns: Namespace, operator: OperatorProcess) -> None:
        ns.task_type()
        ns.task("a", payload={"seconds": 1})
        ns.wait("Job", "a-0-1", lambda _: True)
        assert operator.stop() == 0
        operator.start()
        ns.wait_phase("a", "Succeeded")

    def test_an_api_server_that_was_away(
        self, ns: Namespace, operator: OperatorProcess, control_plane: Any
    ) -> None:
        ns.task_type()
        ns.task("a", payload={"seconds": 8})
        ns.wait_phase("a", "Running")
        control_plane.stop("kube-apiserver", kill=True)
        control_plane.start_component("kube-apiserver")
        ns.wait_phase("a", "Succeeded", seconds=90)
        ns.task("b")
        ns.wait_phase("b", "Succeeded", seconds=90)
        assert operator.probe("/healthz")[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_the_probes_answer(operator: OperatorProcess, path: str) -> None:
    assert operator.probe(path) == (200, "ok")
