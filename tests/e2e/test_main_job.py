"""The main job with a real kubelet: real processes, judged by what they recorded themselves."""

import time

import pytest

from clusters.kindcluster import KubeCluster
from support.cluster import Cluster, Namespace
from support.recorder import Life, Records, named_as_a_test_cluster, overlaps


def attempts(body: dict[str, dict[str, list[dict[str, object]]]]) -> list[tuple[object, object]]:
    return [(a["outcome"], a.get("exitCode")) for a in body["status"]["attempts"]]


def test_a_task_succeeds(ns: Namespace, records: Records) -> None:
    ns.task_type(pod=records.pod())
    ns.task("a", payload={"seconds": 1, "note": "a price of $5, $(HOME) and $$"})
    body = ns.wait_phase("a", "Succeeded", "Failed")
    assert attempts(body) == [("Succeeded", None)]
    (life,) = records.of("a")
    assert life.last - life.first >= 0.9


def test_an_exit_code_is_retried_and_stands_in_the_history(ns: Namespace, records: Records) -> None:
    ns.task_type(pod=records.pod(), retry={"maxRetries": 1})
    ns.task("a", payload={"exits": [3]})
    body = ns.wait_phase("a", "Succeeded", "Failed")
    assert attempts(body) == [("Failed", 3), ("Failed", 3)]
    assert body["status"]["reason"] == "MaxRetriesExceeded"
    assert [a["proofOfDeath"] for a in body["status"]["attempts"]] == ["Node", "Node"]
    assert [life.attempt for life in records.of("a")] == [1, 2]
    assert overlaps(records.lives()) == []


def test_a_process_that_ignores_sigterm_is_dead_at_deadline_and_grace(
    ns: Namespace, records: Records
) -> None:
    deadline, grace, kubelet = 4, 3, 15
    ns.task_type(pod=records.pod(grace), deadlines={"attemptSeconds": deadline}, retry={"maxTimeouts": 1})
    ns.task("a", payload={"hang": True, "ignoreTerm": True})
    body = ns.wait_phase("a", "Succeeded", "Failed", seconds=90)
    assert attempts(body) == [("TimedOut", 137), ("TimedOut", 137)]
    assert body["status"]["reason"] == "MaxTimeoutsExceeded"
    lives = records.of("a")
    assert [life.attempt for life in lives] == [1, 2]
    assert overlaps(lives) == []
    for life in lives:
        lasted = life.last - life.first
        assert grace < lasted < deadline + grace + kubelet, "SIGTERM was not enough, and SIGKILL came in time"


def test_the_operators_pod_is_deleted_while_tasks_run(
    ns: Namespace, records: Records, kube: KubeCluster
) -> None:
    ns.task_type(pod=records.pod(), maxConcurrent=4)
    names = [f"a-{n}" for n in range(12)]
    for n, name in enumerate(names):
        ns.task(name, payload={"seconds": 2, "exits": [1, 0] if n % 3 == 0 else [0]})
    for _ in range(2):
        ended = sum(1 for t in ns.all("AsyncTask") if t["status"]["phase"] == "Succeeded")
        _wait_for_ended(ns, names, ended + 2)
        _kill_operator(kube)
    bodies = ns.wait_ended(names, seconds=180)
    for n, name in enumerate(names):
        expected = [("Failed", 1), ("Succeeded", None)] if n % 3 == 0 else [("Succeeded", None)]
        assert attempts(bodies[name]) == expected, name
    lives = records.lives()
    assert sorted((life.task, life.attempt) for life in lives) == sorted(
        (name, number) for n, name in enumerate(names) for number in ((1, 2) if n % 3 == 0 else (1,))
    )
    assert overlaps(lives) == []
    assert most_at_once(lives) <= 4


def _wait_for_ended(ns: Namespace, names: list[str], count: int) -> None:
    """Wait until so many of the tasks have succeeded, or all have."""
    done: set[str] = set()
    for _, body in ns.watch("AsyncTask", seconds=90):
        if body["status"]["phase"] == "Succeeded":
            done.add(body["metadata"]["name"])
        if len(done) >= min(count, len(names)):
            return
    raise AssertionError(f"only {len(done)} tasks succeeded within 90 s")


def most_at_once(lives: list[Life]) -> int:
    """Return how many processes were alive at the same time, at most."""
    moments = sorted([(life.first, 1) for life in lives] + [(life.last, -1) for life in lives])
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def test_a_cancelled_tasks_process_is_gone(ns: Namespace, records: Records) -> None:
    ns.task_type(pod=records.pod(grace=2))
    ns.task("a", payload={"hang": True, "ignoreTerm": True})
    ns.wait_phase("a", "Running")
    _wait_alive(records, "a")
    ns.patch("AsyncTask", "a", {"spec": {"cancel": True}})
    body = ns.wait_phase("a", "Cancelled", "Failed", "Succeeded")
    assert body["status"]["phase"] == "Cancelled"
    assert body["status"]["attempts"][0]["proofOfDeath"] == "Node"
    _assert_silent(records, "a")


def test_deleting_a_task_deletes_job_pod_and_process(ns: Namespace, records: Records) -> None:
    ns.task_type(pod=records.pod())
    ns.task("a", payload={"hang": True})
    ns.wait_phase("a", "Running")
    _wait_alive(records, "a")
    (pod,) = ns.all("Pod", labels="asyncflow.dev/task=a")
    ns.delete("AsyncTask", "a")
    ns.wait_gone("Job", "a-0-1", seconds=90)
    ns.wait_gone("Pod", pod["metadata"]["name"], seconds=90)
    _assert_silent(records, "a")


def test_a_task_made_anew_under_its_name_waits_for_the_old_process(ns: Namespace, records: Records) -> None:
    ns.task_type(pod=records.pod(grace=15))
    old = ns.task("a", payload={"hang": True, "ignoreTerm": True})
    _wait_alive(records, "a")
    ns.delete("AsyncTask", "a")
    for event, job in ns.watch("Job", seconds=60, name="a-0-1"):
        if event == "DELETED" or "deletionTimestamp" in job["metadata"]:
            break
    else:
        raise AssertionError("the garbage collector has not come to the task's Job within 60 s")
    new = ns.task("a", payload={"seconds": 1})
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    body = ns.wait_phase("a", "Succeeded", "Failed", seconds=120)
    assert attempts(body) == [("Succeeded", None)]
    lives = records.of("a")
    assert [life.attempt for life in lives] == [1, 1]
    assert overlaps(lives) == []


def test_no_operator_is_there_while_a_cancelled_process_dies(
    ns: Namespace, records: Records, kube: KubeCluster
) -> None:
    ns.task_type(pod=records.pod(grace=4))
    ns.task("a", payload={"hang": True, "ignoreTerm": True})
    ns.wait_phase("a", "Running")
    _wait_alive(records, "a")
    ns.patch("AsyncTask", "a", {"spec": {"cancel": True}})
    stopping = "asyncflow.dev/stop-reason"
    ns.wait("Job", "a-0-1", lambda job: stopping in job["metadata"]["annotations"])
    operator = ["-n", "asyncflow-system", "scale", "deployment/asyncflow"]
    kube.kubectl(*operator, "--replicas=0")
    try:
        _wait_silent(records, "a")
        ns.wait("Job", "a-0-1", lambda job: "Failed" in [c["type"] for c in job["status"]["conditions"]])
    finally:
        kube.kubectl(*operator, "--replicas=2")
    body = ns.wait_phase("a", "Cancelled", "Failed", "Succeeded", seconds=120)
    assert body["status"]["phase"] == "Cancelled"
    assert body["status"]["attempts"][0]["proofOfDeath"] == "Node"
    _assert_silent(records, "a")


def _kill_operator(kube: KubeCluster) -> None:
    pods = ["pod", "-l", "app.kubernetes.io/name=asyncflow", "--force", "--grace-period=0"]
    kube.kubectl("-n", "asyncflow-system", "delete", *pods)


def _wait_alive(records: Records, task: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not records.of(task):
        assert time.monotonic() < end, f"no process of {task} has shown itself within {seconds} s"
        time.sleep(0.2)


def _wait_silent(records: Records, task: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    before = 0.0
    while (last := records.of(task)[-1].last) != before:
        assert time.monotonic() < end, f"the process of {task} lives on after {seconds} s"
        before = last
        time.sleep(1)


def _assert_silent(records: Records, task: str) -> None:
    """A living process writes ten lines a second."""
    before = records.of(task)[-1].last
    time.sleep(1)
    assert records.of(task)[-1].last == before


def test_what_a_container_is_told(
    ns: Namespace, cluster: Cluster, records: Records, kube: KubeCluster
) -> None:
    program = (
        "import os, json; "
        "print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('ASYNCFLOW_')}))"
    )
    pod = records.pod()
    pod["containers"][0]["command"] = ["python3", "-c", program]
    ns.task_type(pod=pod, deadlines={"attemptSeconds": 60})
    payload = {"note": "a price of $5, $(HOME), $$ and ünïcode", "n": [1, 2.5, None]}
    made = ns.task("a", payload=payload)
    ns.wait_phase("a", "Succeeded")
    import json

    (found,) = ns.all("Pod", labels="asyncflow.dev/task=a")
    told = json.loads(kube.kubectl("-n", ns.name, "logs", found["metadata"]["name"]))
    assert json.loads(told.pop("ASYNCFLOW_PAYLOAD")) == payload
    assert told == {
        "ASYNCFLOW_TASK": "a",
        "ASYNCFLOW_RUN": "1",
        "ASYNCFLOW_ATTEMPT": "1",
        "ASYNCFLOW_FENCING_TOKEN": "1",
        "ASYNCFLOW_IDEMPOTENCY_KEY": made["metadata"]["uid"],
        "ASYNCFLOW_ATTEMPT_SECONDS": "60",
    }


@pytest.mark.parametrize(
    ("context", "accepted"),
    [
        ("kind-asyncflow-test", True),
        ("test", True),
        ("my_test_1", True),
        ("production", False),
        ("latest", False),
    ],
)
def test_only_a_cluster_named_for_tests_is_touched(context: str, accepted: bool) -> None:
    assert named_as_a_test_cluster(context) is accepted
