"""Nodes, leaders and people that fail, with a real kubelet: judged by what the processes recorded."""

import json
import subprocess
import time
from typing import Any

import pytest

from clusters.errors import ClusterError
from clusters.kindcluster import KubeCluster
from support.cluster import Body, Namespace
from support.machine import Machine
from support.recorder import Records, overlaps

CONFIRMED_DEAD = "asyncflow.dev/confirmed-dead"
DECISION = "asyncflow.dev/decision"
SYSTEM = "asyncflow-system"


def preferring(worker: Machine, pod: Body) -> Body:
    """Return a pod that runs on the worker as long as it can, and elsewhere if not."""
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [worker.name]}
    preference = {"weight": 100, "preference": {"matchExpressions": [term]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}
    return {**pod, "affinity": affinity}


def wait_alive(records: Records, task: str, attempt: int = 1, seconds: float = 60) -> None:
    """Wait until a process of that attempt has shown itself."""
    end = time.monotonic() + seconds
    while not [life for life in records.of(task) if life.attempt == attempt]:
        assert time.monotonic() < end, f"attempt {attempt} of {task} has not shown itself within {seconds} s"
        time.sleep(0.2)


def pod_of(ns: Namespace, task: str, attempt: int = 1) -> Body:
    (pod,) = ns.all("Pod", labels=f"asyncflow.dev/task={task},asyncflow.dev/attempt={attempt}")
    return pod


def is_alive(records: Records, task: str, attempt: int = 1) -> bool:
    """Tell whether a process writes on: it writes ten lines a second."""
    before = [life.last for life in records.of(task) if life.attempt == attempt]
    time.sleep(1)
    return [life.last for life in records.of(task) if life.attempt == attempt] != before


class TestNodes:
    def test_a_drain_in_mid_charge_asks_a_person(
        self, ns: Namespace, records: Records, worker: Machine, kube: KubeCluster
    ) -> None:
        pod = preferring(worker, records.pod(grace=2))
        ns.task_type(pod=pod, retry={"onDisruption": "Hold"}, deadlines={"attemptSeconds": 300})
        ns.task("charge", payload={"hang": True})
        wait_alive(records, "charge")
        assert pod_of(ns, "charge")["spec"]["nodeName"] == worker.name
        kube.kubectl("drain", worker.name, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        asked = ns.condition("AsyncTask", "charge", "DecisionRequired", seconds=60)
        body = ns.get("AsyncTask", "charge")
        assert body is not None
        (attempt,) = body["status"]["attempts"]
        assert (attempt["outcome"], attempt["proofOfDeath"]) == ("Disrupted", "Node")
        assert not is_alive(records, "charge")
        assert attempt["jobUid"] in asked["message"]
        ns.annotate("AsyncTask", "charge", DECISION, f"succeed {attempt['jobUid']} the bank has it")
        body = ns.wait_phase("charge", "Succeeded", "Failed")
        assert (body["status"]["phase"], body["status"]["reason"]) == ("Succeeded", "SucceededByDecision")
        assert body["status"]["attempts"][0]["decisionNote"] == "the bank has it"
        assert len(records.of("charge")) == 1

    def test_a_pod_that_is_deleted_by_force_starts_no_second_one_beside_it(
        self, ns: Namespace, records: Records, kube: KubeCluster
    ) -> None:
        ns.task_type(pod=records.pod(grace=5), deadlines={"attemptSeconds": 60})
        ns.task("a", payload={"hang": True, "ignoreTerm": True})
        wait_alive(records, "a")
        name = pod_of(ns, "a")["metadata"]["name"]
        kube.kubectl("-n", ns.name, "delete", "pod", name, "--force", "--grace-period=0")
        wait_alive(records, "a", attempt=2, seconds=120)
        assert overlaps(records.of("a")) == []
        body = ns.get("AsyncTask", "a")
        assert body is not None
        assert body["status"]["attempts"][0]["proofOfDeath"] == "Node"

    def test_a_node_that_is_gone_proves_nothing_until_an_administrator_vouches(
        self, ns: Namespace, records: Records, worker: Machine, kube: KubeCluster
    ) -> None:
        pod = preferring(worker, records.pod(grace=1))
        ns.task_type(pod=pod, deadlines={"attemptSeconds": 600}, retry={"maxRetries": 1})
        ns.task("a", payload={"hang": True})
        wait_alive(records, "a")
        first = pod_of(ns, "a")
        worker.stop_kubelet()
        kube.kubectl("delete", "node", worker.name)
        stuck = ns.condition("AsyncTask", "a", "Stuck", seconds=150)
        assert stuck["reason"] == "NoProofOfDeath"
        assert is_alive(records, "a"), "the Job has failed, and the process runs on"
        assert [life.attempt for life in records.of("a")] == [1]
        assert first["metadata"]["uid"] in stuck["message"]
        worker.kill_container(first["metadata"]["name"])
        assert not is_alive(records, "a")
        ns.annotate("AsyncTask", "a", CONFIRMED_DEAD, f"{first['metadata']['uid']} switched off")
        wait_alive(records, "a", attempt=2)
        body = ns.get("AsyncTask", "a")
        assert body is not None
        before = body["status"]["attempts"][0]
        assert (before["outcome"], before["proofOfDeath"]) == ("Disrupted", "Fenced")
        assert "switched off" in before["proofDetail"]
        assert overlaps(records.of("a")) == []

    def test_the_out_of_service_taint_is_proof(
        self, ns: Namespace, records: Records, worker: Machine, kube: KubeCluster
    ) -> None:
        pod = preferring(worker, records.pod(grace=1))
        ns.task_type(pod=pod, deadlines={"attemptSeconds": 600}, retry={"maxRetries": 1})
        ns.task("a", payload={"hang": True})
        wait_alive(records, "a")
        worker.stop_kubelet()
        worker.kill_container(pod_of(ns, "a")["metadata"]["name"])
        kube.kubectl("taint", "node", worker.name, "node.kubernetes.io/out-of-service=off:NoExecute")
        try:
            wait_alive(records, "a", attempt=2, seconds=150)
        finally:
            kube.kubectl("taint", "node", worker.name, "node.kubernetes.io/out-of-service-")
        body = ns.get("AsyncTask", "a")
        assert body is not None
        assert body["status"]["attempts"][0]["proofOfDeath"] == "Fenced"
        assert "out-of-service" in body["status"]["attempts"][0]["proofDetail"]
        assert overlaps(records.of("a")) == []


class TestStarts:
    def test_an_image_that_does_not_exist_is_named_and_ends_at_its_deadline(
        self, ns: Namespace, records: Records
    ) -> None:
        pod = records.pod()
        pod["containers"][0]["image"] = "localhost/no-such-image:1"
        ns.task_type(pod=pod, deadlines={"attemptSeconds": 20}, retry={"maxTimeouts": 0})
        ns.task("a")
        waiting = ns.condition("AsyncTask", "a", "Waiting", seconds=40)
        assert waiting["reason"] == "ImagePullBackOff"
        assert "no-such-image" in waiting["message"]
        body = ns.wait_phase("a", "Failed", "Succeeded", seconds=120)
        (attempt,) = body["status"]["attempts"]
        assert (body["status"]["reason"], attempt["outcome"]) == ("MaxTimeoutsExceeded", "TimedOut")
        assert attempt["proofOfDeath"] == "Node"
        assert records.lives() == []

    def test_a_quota_that_is_full_for_a_while_only_delays(self, ns: Namespace, records: Records) -> None:
        ns.create(
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "full"},
                "spec": {"hard": {"pods": "0"}},
            }
        )
        ns.wait("ResourceQuota", "full", lambda q: (q.get("status") or {}).get("hard", {}).get("pods") == "0")
        ns.task_type(pod=records.pod())
        ns.task("a", payload={"seconds": 1})
        waiting = ns.condition("AsyncTask", "a", "Waiting", seconds=60)
        assert waiting["reason"] == "QuotaExceeded"
        ns.delete("ResourceQuota", "full")
        body = ns.wait_phase("a", "Succeeded", "Failed", seconds=120)
        assert [a["number"] for a in body["status"]["attempts"]] == [1]
        assert len(records.of("a")) == 1


class TestWhatReallyRan:
    def test_a_pod_that_its_kubelet_rejects_never_started(
        self, ns: Namespace, records: Records, worker: Machine
    ) -> None:
        pod = {**records.pod(), "nodeName": worker.name}
        pod["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}
        ns.task_type(pod=pod, retry={"maxDisruptions": 0})
        ns.task("a")
        body = ns.wait_phase("a", "Failed", "Succeeded", seconds=60)
        (attempt,) = body["status"]["attempts"]
        assert (attempt["outcome"], attempt["reason"]) == ("NotStarted", "OutOfcpu")
        assert attempt["proofOfDeath"] == "NeverStarted"
        assert body["status"]["reason"] == "MaxDisruptionsExceeded"

    def test_a_sidecar_does_not_decide_the_exit_code(self, ns: Namespace, records: Records) -> None:
        pod = records.pod(grace=2)
        sidecar = {
            "name": "proxy",
            "image": pod["containers"][0]["image"],
            "imagePullPolicy": "IfNotPresent",
            "restartPolicy": "Always",
            "command": ["sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.1; done"],
        }
        snooze = {"exitCodes": [75], "delaySeconds": 1}
        ns.task_type(pod={**pod, "initContainers": [sidecar]}, retry={"maxRetries": 0, "snooze": snooze})
        ns.task("a", payload={"seconds": 0.5, "exits": [75, 0]})
        body = ns.wait_phase("a", "Failed", "Succeeded", seconds=60)
        attempts = [(a["outcome"], a.get("exitCode")) for a in body["status"]["attempts"]]
        assert attempts[0] == ("Snoozed", 75)
        assert attempts[1][0] == "Succeeded"

    def test_exit_0_after_sigterm_is_a_disruption(self, ns: Namespace, records: Records) -> None:
        pod = records.pod(grace=10)
        pod["containers"][0]["command"] = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
        ns.task_type(pod=pod, retry={"maxDisruptions": 0})
        ns.task("a")
        ns.wait(
            "AsyncTask",
            "a",
            lambda b: bool(b["status"].get("attempts")),
            what="a running attempt",
            seconds=60,
        )
        ns.evict(pod_of(ns, "a")["metadata"]["name"])
        body = ns.wait_phase("a", "Failed", "Succeeded", seconds=60)
        (attempt,) = body["status"]["attempts"]
        assert (attempt["outcome"], attempt["reason"]) == ("Disrupted", "EvictionByEvictionAPI")
        assert attempt["proofOfDeath"] == "Node"

    def test_a_node_that_still_mounts_a_volume_is_waited_for_and_an_early_confirmation_rejected(
        self, ns: Namespace, records: Records
    ) -> None:
        pod = records.pod()
        pod["volumes"].append({"name": "late", "secret": {"secretName": "late"}})
        pod["containers"][0]["volumeMounts"].append({"name": "late", "mountPath": "/late"})
        deadlines = {"attemptSeconds": 5}
        ns.task_type(pod=pod, deadlines=deadlines, lease={"marginSeconds": 1}, retry={"maxTimeouts": 0})
        ns.task("a", lockKey="k", payload={"hang": True})
        body = ns.wait(
            "AsyncTask", "a", lambda b: b["status"].get("reason") == "ContainerCreating", seconds=90
        )
        assert "mounting volumes" in body["status"]["message"]
        assert CONFIRMED_DEAD not in body["status"]["message"]
        text = f"{pod_of(ns, 'a')['metadata']['uid']} nothing ever ran"
        ns.annotate("AsyncTask", "a", CONFIRMED_DEAD, text)
        ns.wait_event("a", "AnnotationIgnored")
        body = ns.wait("AsyncTask", "a", lambda b: b["status"].get("rejectedConfirmation") == text)
        assert body["status"]["phase"] == "Running"
        ns.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late"}})
        body = ns.wait_phase("a", "Failed", "Succeeded", seconds=200)
        (attempt,) = body["status"]["attempts"]
        assert (attempt["outcome"], attempt["proofOfDeath"]) == ("TimedOut", "Node")
        assert ns.all("Lease", labels="asyncflow.dev/lock") == []


class TestLocks:
    def test_of_twenty_tasks_with_one_key_no_two_run_at_once(self, ns: Namespace, records: Records) -> None:
        ns.task_type(pod=records.pod(), maxConcurrent=20)
        names = [f"a-{n:02}" for n in range(20)]
        for n, name in enumerate(names):
            fails = [1, 0] if n % 5 == 0 else [0]
            ns.task(name, lockKey="account/4711", payload={"seconds": 0.5, "exits": fails})
        bodies = ns.wait_ended(names, seconds=400)
        assert {body["status"]["phase"] for body in bodies.values()} == {"Succeeded"}
        lives = records.lives()
        assert len(lives) == 24
        assert overlaps(lives, any_task=True) == []
        tokens = [life.token for life in lives]
        assert tokens == sorted(set(tokens)), "tokens only grow"
        assert ns.all("Lease", labels="asyncflow.dev/lock") == []


class TestLeaders:
    def test_a_leader_that_is_killed_is_followed_by_the_other(
        self, ns: Namespace, records: Records, kube: KubeCluster
    ) -> None:
        leader = leader_of(kube)
        ns.task_type(pod=records.pod(), maxConcurrent=4)
        names = [f"a-{n}" for n in range(12)]
        for n, name in enumerate(names):
            ns.task(name, payload={"seconds": 5, "exits": [1, 0] if n % 3 == 0 else [0]})
        wait_alive(records, "a-0")
        kill(leader, kube)
        bodies = ns.wait_ended(names, seconds=240)
        lives = records.lives()
        assert sorted((life.task, life.attempt) for life in lives) == sorted(
            (name, number) for n, name in enumerate(names) for number in ((1, 2) if n % 3 == 0 else (1,))
        )
        assert overlaps(lives) == []
        assert {body["status"]["phase"] for body in bodies.values()} == {"Succeeded"}
        assert leader_of(kube) != leader, "the other one leads"


def leader_of(kube: KubeCluster) -> str:
    """Return the name of the pod that leads, once there is one."""
    end = time.monotonic() + 60
    while True:
        spec: dict[str, Any] = json.loads(
            kube.kubectl("-n", SYSTEM, "get", "lease", "asyncflow-operator", "-o", "json")
        )["spec"]
        holder = str(spec.get("holderIdentity") or "")
        if holder and holder in kube.kubectl("-n", SYSTEM, "get", "pods", "-o", "name"):
            return holder
        assert time.monotonic() < end, f"nobody leads: {spec}"
        time.sleep(1)


def kill(pod: str, kube: KubeCluster) -> None:
    """End an operator without a word, and keep it from coming back for a while."""
    where = kube.kubectl("-n", SYSTEM, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
    try:
        Machine(where, kube).kill_process(pod)
    except (ClusterError, subprocess.SubprocessError) as error:
        pytest.fail(f"{pod} was not killed: {error}")
    kube.kubectl("-n", SYSTEM, "delete", "pod", pod, "--force", "--grace-period=0")
