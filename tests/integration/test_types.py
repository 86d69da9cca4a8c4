"""What a type does on its own account: it throttles, counts, suspends itself, opens shards, removes."""

from typing import Any

import pytest

from support.cluster import Body, Namespace, Refused
from support.operator_process import OperatorProcess

HANG = {"hang": True}
FAIL = {"exits": [1]}
NO_RETRIES = {"maxRetries": 0, "maxTimeouts": 0}


def running(ns: Namespace) -> list[str]:
    """Return the tasks whose attempts have not ended, by name."""
    jobs = [
        job
        for job in ns.all("Job")
        if not any(c["type"] == "Complete" for c in job["status"].get("conditions", []))
    ]
    return sorted(job["metadata"]["labels"]["asyncflow.dev/task"] for job in jobs)


def wait_running(ns: Namespace, number: int) -> None:
    """Wait until so many attempts are in flight."""
    for _ in ns.watch("Job", seconds=30):
        if len(running(ns)) == number:
            return
    raise AssertionError(f"{running(ns)} run, not {number}")


def wait_counts(ns: Namespace, kind: str = "t", **counts: int) -> Body:
    """Wait until a type's counts are these, and all others zero."""
    expected = {"pending": 0, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0, **counts}
    return ns.wait(
        "TaskType", kind, lambda body: body.get("status", {}).get("counts") == expected, what=str(counts)
    )


class TestThrottle:
    def test_a_change_of_the_limit_takes_hold_at_once_and_the_type_says_who_waits(
        self, ns: Namespace
    ) -> None:
        ns.task_type(maxConcurrent=2)
        for number in range(8):
            ns.task(f"a{number}", payload=HANG)
        wait_running(ns, 2)
        kind = ns.wait("TaskType", "t", lambda body: body["status"].get("waiting") == 6)
        tasks = ns.all("AsyncTask")
        assert kind["status"]["waitingSince"] == min(t["metadata"]["creationTimestamp"] for t in tasks)
        assert ns.condition("TaskType", "t", "Throttled")["reason"] == "ConcurrencyLimitReached"
        waiting = [t for t in tasks if t["metadata"]["name"] not in running(ns)]
        assert [t["status"] for t in waiting] == [{"phase": "Pending"}] * 6, (
            "a task that waits costs no write"
        )
        ns.patch("TaskType", "t", {"spec": {"maxConcurrent": 5}})
        wait_running(ns, 5)
        ns.patch("TaskType", "t", {"spec": {"maxConcurrent": 8}})
        wait_running(ns, 8)
        ns.condition("TaskType", "t", "Throttled", status="False")
        wait_counts(ns, running=8)
        kind = ns.get("TaskType", "t") or {}
        assert "waiting" not in kind["status"]


class TestErrorPolicy:
    def test_failures_in_a_row_suspend_the_type_until_a_person_resumes_it(self, ns: Namespace) -> None:
        ns.task_type(maxConcurrent=1, errorPolicy={"maxConsecutive": 2}, retry=NO_RETRIES)
        for name, payload in (("a", FAIL), ("b", {}), ("c", FAIL), ("d", FAIL), ("e", {}), ("f", {})):
            ns.task(name, payload=payload)
        condition = ns.condition("TaskType", "t", "Suspended")
        assert condition["reason"] == "ErrorPolicy"
        assert "2 consecutive tasks failed (errorPolicy.maxConsecutive: 2)" in condition["message"]
        assert (
            f"kubectl annotate --overwrite -n {ns.name} tasktype t asyncflow.dev/resume="
            in condition["message"]
        )
        ns.wait_event("t", "ErrorPolicy")
        ns.wait("AsyncTask", "e", lambda body: body["status"].get("reason") == "TaskTypeSuspended")
        kind = wait_counts(ns, succeeded=1, failed=3, pending=2)
        assert kind["status"]["errors"]["consecutive"] == 2
        assert len(ns.all("Job")) == 4, "not one attempt was made after the failure that was too much"
        ns.annotate("TaskType", "t", "asyncflow.dev/resume", "mended")
        ns.wait_ended(["e", "f"])
        ns.condition("TaskType", "t", "Suspended", status="False")
        ns.wait_event("t", "Resumed")
        kind = wait_counts(ns, succeeded=3, failed=3)
        assert "consecutive" not in kind["status"]["errors"]

    def test_failures_in_all_suspend_it_also_when_the_operator_dies_in_between(
        self, ns: Namespace, operator: OperatorProcess
    ) -> None:
        ns.task_type(maxConcurrent=1, errorPolicy={"maxTotal": 3}, retry=NO_RETRIES)
        for name, payload in (("a", FAIL), ("b", {}), ("c", FAIL)):
            ns.task(name, payload=payload)
        ns.wait_ended(["a", "b", "c"])
        operator.kill()
        operator.start()
        for name, payload in (("d", {}), ("e", FAIL), ("f", {})):
            ns.task(name, payload=payload)
        assert ns.condition("TaskType", "t", "Suspended", seconds=60)["reason"] == "ErrorPolicy"
        operator.kill()
        operator.start()
        ns.wait("AsyncTask", "f", lambda body: body["status"].get("reason") == "TaskTypeSuspended")
        ns.annotate("TaskType", "t", "asyncflow.dev/resume", "1")
        ns.wait_phase("f", "Succeeded")

    @pytest.mark.parametrize("policy", [{"maxConsecutive": 0}, {"maxTotal": -1}])
    def test_a_limit_of_nothing_is_refused(self, ns: Namespace, policy: dict[str, Any]) -> None:
        with pytest.raises(Refused, match=r"spec\.errorPolicy\.max"):
            ns.task_type(errorPolicy=policy)


class TestShards:
    def test_shards_open_and_close_and_a_straggler_holds_up_its_own_alone(self, ns: Namespace) -> None:
        kind = ns.task_type(maxTasksPerShard=3, maxConcurrent=4)
        ns.wait("TaskType", "t", lambda body: body.get("status", {}).get("shards") == {"begin": 1, "end": 1})
        ns.task("straggler", payload=HANG)
        ns.wait("AsyncTask", "straggler", lambda body: body["status"].get("shard") == 1)
        for last in (1, 2, 3):
            names = [f"s{last}-{number}" for number in range(3)]
            for name in names:
                ns.task(name)
            ns.wait_ended(names)
            opened = {"begin": 1, "end": last + 1}
            ns.wait("TaskType", "t", lambda body, shards=opened: body["status"]["shards"] == shards)  # type: ignore[misc]
        kind = wait_counts(ns, succeeded=9, running=1)
        assert kind["status"]["shards"] == {"begin": 1, "end": 4}
        shards = {t["metadata"]["name"]: t["status"]["shard"] for t in ns.all("AsyncTask")}
        assert set(shards.values()) == {1, 2, 3}
        ns.patch("AsyncTask", "straggler", {"spec": {"cancel": True}})
        ns.wait("TaskType", "t", lambda body: body["status"]["shards"] == {"begin": 4, "end": 4})
        ns.annotate("AsyncTask", "s1-0", "asyncflow.dev/retry-now", "again")
        anew = ns.wait("AsyncTask", "s1-0", lambda body: body["status"].get("run") == 2)
        assert anew["status"]["shard"] == 4, "what is begun anew belongs to the shard that takes new tasks"


class TestRetention:
    def test_finished_tasks_are_deleted_when_their_jobs_are_gone(
        self, ns: Namespace, operator: OperatorProcess
    ) -> None:
        ns.task_type(retention={"succeededSeconds": 0}, retry=NO_RETRIES)
        names = [f"a{number}" for number in range(5)]
        for name in names:
            ns.task(name)
        ns.task("bad", payload=FAIL)
        ns.wait_ended([*names, "bad"])
        wait_counts(ns, succeeded=5, failed=1)
        ns.wait("TaskType", "t", lambda body: body["status"]["shards"]["begin"] == 1)
        assert len(ns.all("AsyncTask")) == 6, "their Jobs are kept for ten minutes, and so are they"
        for job in ns.all("Job"):
            ns.delete("Job", job["metadata"]["name"], propagationPolicy="Background")
        for name in names:
            ns.wait_gone("AsyncTask", name)
        wait_counts(ns, succeeded=0, failed=1)
        assert [t["metadata"]["name"] for t in ns.all("AsyncTask")] == ["bad"]
        operator.kill()
        operator.start()
        ns.task("later")
        ns.wait_phase("later", "Succeeded")
        wait_counts(ns, succeeded=1, failed=1)
