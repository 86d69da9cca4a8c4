"""The promises beyond the plain run: leases, proof of death, decisions, budgets, locks, retry-now."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
import yaml

from asyncflow.core.attempt.naming import lock_name
from clusters.controlplane import ControlPlane
from support.cluster import POD, Body, Cluster, Namespace, Refused
from support.operator_process import OperatorProcess

TASK_LABEL = "asyncflow.dev/task"
LOCK_LABEL = "asyncflow.dev/lock"
LEASE = "asyncflow.dev/lease"
CONFIRMED_DEAD = "asyncflow.dev/confirmed-dead"
DECISION = "asyncflow.dev/decision"
RETRY_NOW = "asyncflow.dev/retry-now"
NODE_LABEL = "asyncflow.test/node"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


def pod(**spec: Any) -> Body:
    """Return the pod of a type, with a grace of one second and what else is asked for."""
    made: Body = yaml.safe_load(POD)
    return {**made, **spec}


def on(node: str) -> Body:
    """Return a pod that only that node may take."""
    return pod(nodeSelector={NODE_LABEL: node})


def quota(hard: dict[str, str]) -> Body:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def condition(body: Body, kind: str) -> Body:
    """Return a condition of a task, empty if there is none."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), {})


def says(kind: str, reason: str) -> Callable[[Body], bool]:
    """Return what tells whether a condition holds for that reason."""

    def tell(body: Body) -> bool:
        found = condition(body, kind)
        return bool(found) and (found["status"], found["reason"]) == ("True", reason)

    return tell


def attempts(body: Body, *fields: str) -> list[tuple[Any, ...]]:
    """Return the history of a task, cut down to some fields."""
    return [tuple(entry.get(field) for field in fields) for entry in body["status"]["attempts"]]


def ended(body: Body) -> list[Body]:
    """Return the attempts of a task that have ended."""
    return [entry for entry in body["status"].get("attempts") or [] if "outcome" in entry]


def finished(job: Body) -> bool:
    conditions = job.get("status", {}).get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def job_uid(ns: Namespace, name: str) -> str:
    """Return the uid of a Job that is there."""
    job = ns.get("Job", name)
    assert job is not None, f"there is no Job {name}"
    uid: str = job["metadata"]["uid"]
    return uid


def running_pod(ns: Namespace, task: str, attempt: int = 1) -> Body:
    """Wait until a task's attempt runs at a node; return its pod."""
    labels = {TASK_LABEL: task, "asyncflow.dev/attempt": str(attempt)}
    for event, body in ns.watch("Pod", seconds=60):
        ours = labels.items() <= body["metadata"]["labels"].items()
        if event != "DELETED" and ours and body["status"].get("phase") == "Running":
            return body
    raise AssertionError(f"no pod of attempt {attempt} of {task} runs within 60 s")


def seen_in_order(ns: Namespace, kind: str, until: Callable[[Body], bool]) -> Iterator[tuple[str, Body]]:
    """Yield the events of a kind in their order, up to the first that is as asked."""
    for event, body in ns.watch(kind, seconds=60):
        yield event, body
        if event != "DELETED" and until(body):
            return
    raise AssertionError(f"what was waited for did not come to the {kind}s of {ns.name} within 60 s")


# Nodes


@contextmanager
def node(cluster: Cluster) -> Iterator[str]:
    """Have a node of one's own; only pods that ask for it by its label are sure to be there."""
    name = f"n-{uuid4().hex[:8]}"
    everywhere = Namespace(cluster, "default")
    everywhere.create(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {NODE_LABEL: name}}}
    )
    try:
        yield name
    finally:
        if everywhere.get("Node", name) is not None:
            everywhere.delete("Node", name)


@contextmanager
def silent_kubelets(control_plane: ControlPlane) -> Iterator[None]:
    """Let no kubelet do or report anything; the control plane holds the nodes for ready for 50 s more."""
    kwok = control_plane.pids["kwok"]
    os.kill(kwok, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kwok, signal.SIGCONT)


def shut_down(ns: Namespace, control_plane: ControlPlane, name: str) -> Body:
    """Put a silent node out of service, as an administrator does; return task ``a``, its attempt ended."""
    taint = {"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}
    with silent_kubelets(control_plane):
        ns.patch("Node", name, {"spec": {"taints": [taint]}})
        return ns.wait("AsyncTask", "a", lambda b: len(ended(b)) == 1, what="an ended attempt")


@dataclass(frozen=True)
class Slow:
    """What takes long by its nature: it begins before the first test, so that no test waits for it alone."""

    lost: Namespace
    """Task ``a`` ran at a node whose object is deleted: the pod garbage collector acts after 40 to 60 s."""
    lost_pod: Body
    no_node: Namespace
    """Task ``a`` asks for a node that there is not."""
    no_quota: Namespace
    """Task ``a`` has a Job that may make no pod."""


@pytest.fixture(scope="module", autouse=True)
def slow(cluster: Cluster, _operator: OperatorProcess) -> Iterator[Slow]:
    with (
        node(cluster) as name,
        cluster.namespace() as lost,
        cluster.namespace() as no_node,
        cluster.namespace() as no_quota,
    ):
        lost.task_type(pod=on(name), deadlines={"attemptSeconds": 600})
        lost.task("a", payload={"hang": True})
        no_node.task_type(
            pod=on("nowhere"),
            deadlines={"pendingSeconds": 6},
            retry={"maxTimeouts": 1, "maxRetries": 0},
        )
        no_node.task("a")
        no_quota.task_type(deadlines={"pendingSeconds": 1}, retry={"maxTimeouts": 0})
        no_quota.create(quota({"pods": "0"}))
        no_quota.wait("ResourceQuota", "q", lambda q: "hard" in (q.get("status") or {}))
        no_quota.task("a")
        lost_pod = running_pod(lost, "a")
        lost.wait_phase("a", "Running")
        lost.delete("Node", name)
        yield Slow(lost, lost_pod, no_node, no_quota)


# The lease, and settings that change under an attempt


class TestLease:
    def test_it_lasts_as_long_as_a_living_kubelet_may_take_and_the_margin(self, ns: Namespace) -> None:
        ns.task_type(
            pod=pod(terminationGracePeriodSeconds=7),
            deadlines={"attemptSeconds": 600},
            lease={"marginSeconds": 40},
        )
        ns.task("a", payload={"hang": True})
        start = moment(running_pod(ns, "a")["status"]["startTime"])
        end = start + timedelta(seconds=600 + 7 + 2 + 40)
        body = ns.wait("AsyncTask", "a", lambda b: "lease" in b["status"], what="a lease")
        lease = body["status"]["lease"]
        assert moment(lease["expireTime"]) == end
        assert (lease["holder"], lease["token"]) == ("a-0-1", 1)
        assert moment(lease["acquireTime"]) <= start
        ns.patch("AsyncTask", "a", {"spec": {"cancel": True}})
        assert "lease" not in ns.wait_phase("a", "Cancelled")["status"]


class TestATypeThatChanges:
    def test_a_running_attempt_keeps_its_deadline_and_the_next_has_the_new_one(self, ns: Namespace) -> None:
        ns.task_type(deadlines={"attemptSeconds": 600})
        ns.task("a", payload={"hang": True})
        running_pod(ns, "a")
        ns.patch("TaskType", "t", {"spec": {"deadlines": {"attemptSeconds": 1200}}})
        ns.wait("TaskType", "t", lambda b: b["status"].get("observedGeneration") == 2)
        ns.task("b", payload={"hang": True})
        assert running_pod(ns, "b")["spec"]["activeDeadlineSeconds"] == 1200
        assert running_pod(ns, "a")["spec"]["activeDeadlineSeconds"] == 600
        lease = ns.wait("AsyncTask", "a", lambda b: "lease" in b["status"])["status"]["lease"]
        started = moment(running_pod(ns, "a")["status"]["startTime"])
        assert moment(lease["expireTime"]) == started + timedelta(seconds=600 + 1 + 2 + 30)

    def test_a_type_that_is_deleted_ends_no_attempt_and_a_new_one_of_its_name_goes_on(
        self, ns: Namespace
    ) -> None:
        ns.task_type()
        ns.task("a", payload={"seconds": 3, "exits": [7, 0]})
        running_pod(ns, "a")
        ns.delete("TaskType", "t")
        ns.wait_gone("TaskType", "t")
        assert not finished(ns.get("Job", "a-0-1") or {}), "the attempt goes on"
        body = ns.wait("AsyncTask", "a", says("Waiting", "UnknownTaskType"))
        assert attempts(body, "outcome", "exitCode") == [("Failed", 7)]
        ns.task_type()
        body = ns.wait_phase("a", "Succeeded", "Failed")
        assert attempts(body, "outcome", "exitCode") == [("Failed", 7), ("Succeeded", None)]


class TestSettingsThatContradict:
    @pytest.mark.parametrize(
        ("retry", "remedy"),
        [
            ({"nonRetriableExitCodes": [3, 75]}, "defaults to [75]): remove the exit code from one of them"),
            (
                {"nonRetriableExitCodes": [9], "snooze": {"exitCodes": [9]}},
                "remove the exit code from one of them",
            ),
            (
                {"backoff": {"initialSeconds": 700}},
                "backoff.initialSeconds must not exceed backoff.maximumSeconds",
            ),
        ],
    )
    def test_a_type_is_refused_with_the_remedy(
        self, ns: Namespace, retry: dict[str, Any], remedy: str
    ) -> None:
        with pytest.raises(Refused) as refused:
            ns.task_type(retry=retry)
        assert remedy in str(refused.value)

    def test_an_exit_code_that_is_no_snooze_any_more_may_be_final(self, ns: Namespace) -> None:
        ns.task_type(retry={"nonRetriableExitCodes": [75], "snooze": {"exitCodes": [76]}})

    def test_a_lock_is_not_for_a_type_that_replaces_without_proof(self, ns: Namespace) -> None:
        ns.task_type(onNodeLost="ReplaceUnsafe")
        ns.task("a", lockKey="k")
        ns.task("b")
        ns.wait_phase("b", "Succeeded")
        invalid = ns.condition("AsyncTask", "a", "Invalid")
        assert (invalid["reason"], "onNodeLost: Wait" in invalid["message"]) == ("ConflictingSettings", True)
        ns.wait_event("a", "ConflictingSettings")
        assert ns.get("Job", "a-0-1") is None
        assert ns.all("Lease") == []


# Attempts that never start


class TestNotStarted:
    def test_cancelled_while_its_job_has_no_pod(self, ns: Namespace) -> None:
        ns.task_type()
        ns.create(quota({"pods": "0"}))
        ns.wait("ResourceQuota", "q", lambda q: "hard" in (q.get("status") or {}))
        ns.task("a")
        ns.wait("Job", "a-0-1", lambda _: True)
        ns.patch("AsyncTask", "a", {"spec": {"cancel": True}})
        body = ns.wait_phase("a", "Cancelled", "Failed", "Succeeded")
        assert body["status"]["phase"] == "Cancelled"
        assert attempts(body, "outcome", "proofOfDeath") == [("Cancelled", "NeverStarted")]
        assert not condition(body, "Stuck")
        assert ns.all("Pod") == []

    def test_a_quota_that_stays(self, slow: Slow) -> None:
        ns = slow.no_quota
        body = ns.wait_phase("a", "Failed", "Succeeded")
        assert body["status"]["reason"] == "MaxTimeoutsExceeded"
        assert attempts(body, "outcome", "proofOfDeath") == [("NotStarted", "NeverStarted")]
        (entry,) = body["status"]["attempts"]
        assert entry["message"].startswith("QuotaExceeded: ")
        assert "exceeded quota" in entry["message"]

    def test_no_node_takes_its_pod(self, slow: Slow) -> None:
        ns = slow.no_node
        told = ns.wait_event("a", "Unschedulable")
        assert "node" in told["message"]
        body = ns.wait_phase("a", "Failed", "Succeeded")
        assert body["status"]["reason"] == "MaxTimeoutsExceeded"
        assert attempts(body, "number", "outcome", "proofOfDeath") == [
            (1, "NotStarted", "NeverStarted"),
            (2, "NotStarted", "NeverStarted"),
        ]
        for entry in body["status"]["attempts"]:
            assert entry["message"].startswith("Unschedulable: ")
            assert "didn't match Pod's node affinity/selector" in entry["message"]
        assert body["status"]["timeouts"] == 2
        assert "failures" not in body["status"]
        assert condition(body, "Waiting")["status"] == "False", "it was shown before"


# Who decides what comes next


class TestHold:
    def test_a_person_decides_after_a_disruption(self, ns: Namespace) -> None:
        ns.task_type(retry={"onDisruption": "Hold"})
        names = ("again", "done", "over")
        for name in names:
            ns.task(name, payload={"hang": True})
        for name in names:
            ns.evict(running_pod(ns, name)["metadata"]["name"])
        uids = {}
        for name in names:
            asked = ns.condition("AsyncTask", name, "DecisionRequired")
            uids[name] = job_uid(ns, f"{name}-0-1")
            assert f'{DECISION}="retry|fail|succeed {uids[name]} why"' in asked["message"]
            body = ns.wait_phase(name, "Pending")
            assert attempts(body, "outcome", "reason") == [("Disrupted", "EvictionByEvictionAPI")]
        ns.wait_event("again", "DecisionRequired")

        ns.annotate("AsyncTask", "again", DECISION, f"retry {uids['done']} copied from another task")
        ns.wait(
            "AsyncTask",
            "again",
            lambda b: "has no effect: it names" in condition(b, "DecisionRequired")["message"],
        )
        assert ns.get("Job", "again-0-2") is None

        ns.annotate("AsyncTask", "again", DECISION, f"retry {uids['again']} the node was drained")
        ns.annotate("AsyncTask", "done", DECISION, f"succeed {uids['done']} the order is there")
        ns.annotate("AsyncTask", "over", DECISION, f"fail {uids['over']}")
        running_pod(ns, "again", attempt=2)
        body = ns.wait_phase("again", "Running")
        assert attempts(body, "outcome", "decision", "decisionNote")[0] == (
            "Disrupted",
            "Retry",
            "the node was drained",
        )
        body = ns.wait_phase("done", "Succeeded", "Failed")
        assert (body["status"]["phase"], body["status"]["reason"]) == ("Succeeded", "SucceededByDecision")
        assert "the order is there" in body["status"]["message"]
        assert condition(body, "DecisionRequired")["status"] == "False"
        body = ns.wait_phase("over", "Succeeded", "Failed")
        assert (body["status"]["phase"], body["status"]["reason"]) == ("Failed", "FailedByDecision")
        jobs = {job["metadata"]["name"] for job in ns.all("Job")}
        assert jobs == {"again-0-1", "again-0-2", "done-0-1", "over-0-1"}


class TestSnooze:
    def test_it_is_counted_apart_and_what_is_too_many_is_a_failure(self, ns: Namespace) -> None:
        ns.task_type(retry={"maxRetries": 1, "snooze": {"delaySeconds": 3, "maxTimes": 1}})
        ns.task("a", payload={"exits": [75, 75, 0]})
        ns.wait("AsyncTask", "a", says("Waiting", "Snoozed"))
        body = ns.wait_phase("a", "Succeeded", "Failed")
        assert attempts(body, "outcome", "exitCode") == [
            ("Snoozed", 75),
            ("Failed", 75),
            ("Succeeded", None),
        ]
        assert (body["status"]["snoozes"], body["status"]["failures"]) == (1, 1)
        first, second, _ = body["status"]["attempts"]
        assert moment(second["startTime"]) >= moment(first["endTime"]) + timedelta(seconds=3)


class TestRetryNow:
    def test_a_failed_task_begins_another_run(self, ns: Namespace) -> None:
        ns.task_type(retry={"maxRetries": 0})
        ns.task("a", payload={"exits": [1, 0]})
        ns.wait_phase("a", "Failed")
        ns.annotate("AsyncTask", "a", RETRY_NOW, "the API is back")
        body = ns.wait_phase("a", "Succeeded")
        assert attempts(body, "number", "run", "outcome") == [(1, 1, "Failed"), (2, 2, "Succeeded")]
        assert (body["status"]["run"], "failures" in body["status"]) == (2, False)
        assert condition(body, "Failed")["status"] == "False"

        ns.annotate("AsyncTask", "a", RETRY_NOW, "the API is back")  # asked and answered
        ns.annotate("AsyncTask", "a", "asyncflow.test/other", "news of the task")
        ns.task("b")
        ns.wait_phase("b", "Succeeded")
        again = ns.get("AsyncTask", "a")
        assert again is not None
        assert again["status"] == body["status"]

    def test_a_task_in_back_off_starts_at_once(self, ns: Namespace) -> None:
        ns.task_type(retry={"backoff": {"initialSeconds": 600, "jitterPercent": 0}})
        ns.task("a", payload={"exits": [1, 0]})
        ns.wait("AsyncTask", "a", says("Waiting", "BackOff"))
        ns.annotate("AsyncTask", "a", RETRY_NOW, "1")
        body = ns.wait_phase("a", "Succeeded", "Failed")
        assert attempts(body, "run", "outcome", "decision") == [
            (1, "Failed", "Retry"),
            (1, "Succeeded", None),
        ]

    def test_a_cancelled_task_stays_cancelled(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", cancel=True)
        ns.wait_phase("a", "Cancelled")
        ns.annotate("AsyncTask", "a", RETRY_NOW, "please")
        assert "create another task" in ns.wait_event("a", "RetryRefused")["message"]
        body = ns.wait("AsyncTask", "a", lambda b: b["status"].get("retryNow") == "please")
        assert (body["status"]["phase"], body["status"].get("run")) == ("Cancelled", None)
        assert ns.all("Job") == []


class TestRetryBudget:
    MINIMUM = 10
    TASKS = 12

    def test_a_retry_within_it_is_no_news(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", payload={"exits": [1, 0]})
        shown = set()
        for _, body in seen_in_order(ns, "AsyncTask", lambda b: b["status"]["phase"] == "Succeeded"):
            shown.add(body["status"].get("reason", ""))
        assert shown <= {"", "BackOff"}
        ns.task("b", payload={"exits": [1]}, retry={"maxRetries": 0})
        ns.wait_event("b", "MaxRetriesExceeded")  # events are posted in their order
        assert {
            event["reason"] for event in ns.all("Event") if event["involvedObject"]["name"] == "a"
        } == set()

    def test_retries_beyond_it_wait_and_a_restart_grants_none(
        self, ns: Namespace, operator: OperatorProcess
    ) -> None:
        ns.task_type(
            maxConcurrent=self.TASKS, retry={"budget": {"percent": 0, "minimumPerMinute": self.MINIMUM}}
        )
        names = [f"a-{n}" for n in range(self.TASKS)]
        for name in names:
            ns.task(name, payload={"exits": [1, 0]})
        retried: set[str] = set()
        for _, job in ns.watch("Job", seconds=60):
            if job["metadata"]["labels"]["asyncflow.dev/attempt"] == "2":
                retried.add(job["metadata"]["labels"][TASK_LABEL])
            if len(retried) >= self.MINIMUM:
                break
        short = ns.condition("TaskType", "t", "RetryBudgetExhausted", seconds=20)
        assert short["reason"] == "BudgetExhausted"
        left = next(name for name in names if name not in retried)
        ns.wait("AsyncTask", left, says("Waiting", "RetryBudgetExhausted"))
        operator.kill()
        operator.start()
        bodies = ns.wait_ended(names)
        for body in bodies.values():
            assert attempts(body, "outcome") == [("Failed",), ("Succeeded",)]
        kind = ns.condition("TaskType", "t", "RetryBudgetExhausted", status="False")
        assert kind["reason"] == "BudgetAvailable"
        bucket = (ns.get("TaskType", "t") or {})["status"]["retryBudget"]
        assert 0 <= bucket["tokens"] <= self.MINIMUM

        seconds = timedelta(seconds=60 / self.MINIMUM)
        made = sorted(
            moment(job["metadata"]["creationTimestamp"])
            for job in ns.all("Job", labels="asyncflow.dev/attempt=2")
        )
        due = [made[0]] * self.MINIMUM + [made[0] + seconds * (n + 1) for n in range(2)]
        assert all(at + timedelta(seconds=1) >= when for at, when in zip(made, due, strict=True)), made


# Locks


class TestLocks:
    def test_one_holder_at_a_time_in_order_with_tokens_that_grow(self, ns: Namespace) -> None:
        ns.task_type(maxConcurrent=6, suspend=True)
        for name, priority in (("d", 0), ("e", 0), ("f", -5), ("c", 3), ("a", 5), ("b", 5)):
            ns.task(name, priority=priority, lockKey="the account 7", payload={"seconds": 0.5})
            ns.condition("AsyncTask", name, "Waiting")
        ns.task("other", payload={"seconds": 0.5}, lockKey="another account", priority=-9)
        ns.patch("TaskType", "t", {"spec": {"suspend": False}})

        live: list[str] = []
        order: list[str] = []
        tokens: list[int] = []
        together = 0
        last = lambda job: job["metadata"]["name"] == "f-0-1" and finished(job)  # noqa: E731
        for event, job in seen_in_order(ns, "Job", last):
            name = job["metadata"]["labels"][TASK_LABEL]
            if name == "other":
                together += bool(live)
                continue
            if event == "ADDED":
                assert live == [], "another attempt with this key is in flight"
                live.append(name)
                order.append(name)
                tokens.append(json.loads(job["metadata"]["annotations"][LEASE])["token"])
            elif finished(job) and name in live:
                live.remove(name)
        assert order == ["a", "b", "c", "d", "e", "f"]
        assert all(former < latter for former, latter in pairwise(tokens)), tokens
        assert together, "another key is another lock"
        bodies = ns.wait_ended(["a", "b", "c", "d", "e", "f", "other"])
        assert {body["status"]["phase"] for body in bodies.values()} == {"Succeeded"}
        assert condition(bodies["f"], "Waiting")["status"] == "False"
        assert ns.all("Lease", LOCK_LABEL) == []

    def test_a_holder_that_is_deleted_frees_it_once_it_is_dead(self, ns: Namespace) -> None:
        ns.task_type(pod=pod(terminationGracePeriodSeconds=5))
        ns.task("a", lockKey="k", payload={"hang": True, "dying": 2})
        running_pod(ns, "a")
        ns.task("b", lockKey="k")
        ns.wait("AsyncTask", "b", says("Waiting", "LockHeld"))
        lease = ns.get("Lease", lock_name("k"))
        assert lease is not None
        ns.delete("AsyncTask", "a")
        former: tuple[str, Body] | None = None
        for event, body in seen_in_order(ns, "Pod", lambda b: b["metadata"]["labels"][TASK_LABEL] == "b"):
            if body["metadata"]["labels"][TASK_LABEL] == "a":
                former = event, body
        assert former is not None
        assert former[0] == "DELETED" or "terminated" in former[1]["status"]["containerStatuses"][0]["state"]
        ns.wait_phase("b", "Succeeded")
        token = json.loads((ns.get("Job", "b-0-1") or {})["metadata"]["annotations"][LEASE])["token"]
        assert token > int(lease["metadata"]["resourceVersion"])
        assert ns.all("Lease", LOCK_LABEL) == []

    def test_a_lock_whose_holder_nobody_knows_waits_for_a_person(self, ns: Namespace) -> None:
        ns.task_type()
        ns.create(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": lock_name("k"),
                    "labels": {"app.kubernetes.io/managed-by": "asyncflow", LOCK_LABEL: "true"},
                },
                "spec": {"holderIdentity": "gone-uid/1/0/1"},
            }
        )
        ns.task("a", lockKey="k")
        ns.task("b")
        body = ns.wait("AsyncTask", "a", says("Waiting", "LockOrphaned"))
        remedy = f"kubectl delete lease -n {ns.name} {lock_name('k')}"
        assert remedy in condition(body, "Waiting")["message"]
        ns.wait_event("a", "LockOrphaned")
        ns.wait_phase("b", "Succeeded")
        assert ns.get("Job", "a-0-1") is None
        ns.delete("Lease", lock_name("k"))
        ns.wait_phase("a", "Succeeded")
        assert ns.all("Lease", LOCK_LABEL) == []


# Nodes that are lost


class TestNodeLost:
    def test_replaced_without_proof_only_where_the_type_says_so_and_only_after_the_lease(
        self, ns: Namespace, control_plane: ControlPlane
    ) -> None:
        ns.task_type(onNodeLost="ReplaceUnsafe", deadlines={"attemptSeconds": 4}, lease={"marginSeconds": 1})
        ns.task("a", payload={"hang": True})
        start = moment(running_pod(ns, "a")["status"]["startTime"])
        with silent_kubelets(control_plane):
            job = ns.wait("Job", "a-0-2", lambda _: True)
        lease = start + timedelta(seconds=4 + 1 + 2 + 1)
        assert moment(job["metadata"]["creationTimestamp"]) >= lease
        body = ns.wait("AsyncTask", "a", lambda b: bool(b["status"].get("attempts")))
        assert attempts(body, "number", "outcome", "reason", "proofOfDeath")[0] == (
            1,
            "Unknown",
            "LeaseExpired",
            "Waived",
        )
        assert body["status"]["timeouts"] == 1, "an attempt that outlived its lease is a timeout"
        assert "not proven" in ns.wait_event("a", "ReplacedUnsafe")["message"]

    def test_a_node_out_of_service_is_proof(
        self, cluster: Cluster, ns: Namespace, control_plane: ControlPlane
    ) -> None:
        with node(cluster) as name:
            ns.task_type(pod=on(name))
            ns.task("a", payload={"hang": True})
            running_pod(ns, "a")
            body = shut_down(ns, control_plane, name)
            assert attempts(body, "outcome", "proofOfDeath", "proofDetail") == [
                ("Disrupted", "Fenced", f"node {name} has the out-of-service taint")
            ]
            assert f"node {name}" in ns.wait_event("a", "Fenced")["message"]
            ns.wait("Job", "a-0-2", lambda _: True)

    def test_a_node_that_is_back_in_service_runs_attempts_to_their_end(
        self, cluster: Cluster, ns: Namespace, control_plane: ControlPlane
    ) -> None:
        with node(cluster) as name:
            ns.task_type(pod=on(name))
            ns.task("a", payload={"seconds": 6})
            running_pod(ns, "a")
            shut_down(ns, control_plane, name)
            ns.patch("Node", name, {"spec": {"taints": None}})
            body = ns.wait("AsyncTask", "a", lambda b: len(ended(b)) == 2, what="two ended attempts")
            assert [(a["outcome"], a["proofOfDeath"]) for a in ended(body)] == [
                ("Disrupted", "Fenced"),
                ("Succeeded", "Node"),
            ]

    def test_a_node_that_is_gone_proves_nothing_until_an_administrator_says_so(self, slow: Slow) -> None:
        ns = slow.lost
        stuck = ns.condition("AsyncTask", "a", "Stuck", seconds=100)
        uid = slow.lost_pod["metadata"]["uid"]
        assert stuck["reason"] == "NoProofOfDeath"
        assert f'{CONFIRMED_DEAD}="{uid} why you know"' in stuck["message"]
        ns.wait_event("a", "NoProofOfDeath")
        assert ns.get("Job", "a-0-2") is None

        ns.annotate("AsyncTask", "a", CONFIRMED_DEAD, "00000000-0000-0000-0000-000000000000 another one")
        ns.task("later", suspend=True)
        ns.condition("AsyncTask", "later", "Waiting")
        assert ns.get("Job", "a-0-2") is None

        ns.annotate("AsyncTask", "a", CONFIRMED_DEAD, f"{uid} I saw it burn")
        ns.wait("Job", "a-0-2", lambda _: True)
        body = ns.wait("AsyncTask", "a", lambda b: condition(b, "Stuck").get("status") == "False")
        assert attempts(body, "number", "outcome", "proofOfDeath", "proofDetail")[0] == (
            1,
            "Disrupted",
            "Fenced",
            "confirmed by an administrator: I saw it burn",
        )
        assert "I saw it burn" in ns.wait_event("a", "Fenced")["message"]
