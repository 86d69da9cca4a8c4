"""What can't work: refused by the API server where it can be, else shown on the task; healed once gone."""

import time
from typing import Any

import pytest
import yaml

from support.cluster import API, POD, Namespace, Refused


def containers(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "main", "image": "none", **fields}]}


class TestRefusedTypes:
    @pytest.mark.parametrize(
        ("spec", "names"),
        [
            (
                {"deadlines": {"attemptSeconds": 0}},
                ["spec.deadlines.attemptSeconds", "greater than or equal to 1"],
            ),
            ({"deadlines": {"attemptSeconds": 9_999_999}}, ["spec.deadlines.attemptSeconds", "2592000"]),
            ({"maxConcurrent": 0}, ["spec.maxConcurrent", "greater than or equal to 1"]),
            ({"retry": {"backoff": {"multiplier": 0.5}}}, ["spec.retry.backoff.multiplier"]),
            ({"retry": {"nonRetriableExitCodes": [0]}}, ["spec.retry.nonRetriableExitCodes[0]"]),
            ({"onNodeLost": "Replace"}, ["spec.onNodeLost", "Wait", "ReplaceUnsafe"]),
            ({"requireResult": True}, ["requireResult requires captureResult"]),
            (
                {"stages": [{"name": "x", "template": {"spec": containers()}}]},
                ["exactly one of template and stages"],
            ),
        ],
    )
    def test_a_field_out_of_bounds(self, ns: Namespace, spec: dict[str, Any], names: list[str]) -> None:
        with pytest.raises(Refused) as refused:
            ns.task_type(**spec)
        for name in names:
            assert name in str(refused.value)

    @pytest.mark.parametrize(
        ("pod", "remedy"),
        [
            ({**containers(), "activeDeadlineSeconds": 5}, "use spec.deadlines.attemptSeconds"),
            ({**containers(), "restartPolicy": "OnFailure"}, "restartPolicy must be Never"),
            (
                containers(lifecycle={"postStart": {"exec": {"command": ["x"]}}}),
                "lifecycle.postStart is not allowed",
            ),
            (containers(restartPolicy="Always"), "containers[*].restartPolicy must be Never"),
            (
                containers(
                    restartPolicyRules=[{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]
                ),
                "restartPolicyRules is not allowed",
            ),
            ({**containers(), "terminationGracePeriodSeconds": 0}, "terminationGracePeriodSeconds"),
            (
                {
                    **containers(livenessProbe={"terminationGracePeriodSeconds": 181}),
                    "terminationGracePeriodSeconds": 180,
                },
                "must not exceed that of the pod",
            ),
            (
                containers(startupProbe={"terminationGracePeriodSeconds": 31}),
                "must not exceed that of the pod",
            ),
            (
                {
                    **containers(),
                    "initContainers": [
                        {"name": "i", "image": "i", "startupProbe": {"terminationGracePeriodSeconds": 31}}
                    ],
                },
                "initContainers[*]: the terminationGracePeriodSeconds",
            ),
            ({"containers": []}, "spec.template.spec.containers"),
            (containers(env={"A": "b"}), "spec.template.spec.containers[0].env"),
            (containers(env=[{"value": "b"}]), "spec.template.spec.containers[0].env[0].name"),
        ],
    )
    def test_a_pod_that_would_break_a_promise(self, ns: Namespace, pod: dict[str, Any], remedy: str) -> None:
        with pytest.raises(Refused) as refused:
            ns.task_type(pod=pod)
        assert remedy in str(refused.value)

    def test_a_sidecar_is_welcome(self, ns: Namespace) -> None:
        ns.task_type(
            pod={**containers(), "initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always"}]}
        )


class TestRefusedTasks:
    @pytest.mark.parametrize(
        ("name", "spec", "message"),
        [
            ("x" * 53, {}, "no more than 52 characters"),
            ("a.b", {}, "must be a DNS label"),
            ("a", {"taskTypeName": "Not A Name"}, "spec.taskTypeName"),
            ("a", {"payload": [1]}, "spec.payload"),
            ("a", {"payload": "text"}, "spec.payload"),
            ("a", {"priority": 10_000_000}, "spec.priority"),
            ("a", {"notBefore": "tomorrow"}, "spec.notBefore"),
            ("a", {"notBefore": "2026-01-01t08:00:00z"}, "spec.notBefore"),
            ("a", {"notBefore": "9999-12-31T23:59:59Z"}, "spec.notBefore"),
            ("a", {"deadlines": {"totalSeconds": -1}}, "spec.deadlines.totalSeconds"),
        ],
    )
    def test_a_field_out_of_bounds(
        self, ns: Namespace, name: str, spec: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(Refused) as refused:
            ns.task(name, **spec)
        assert message in str(refused.value)

    def test_the_type_has_to_be_named(self, ns: Namespace) -> None:
        with pytest.raises(Refused, match=r"spec\.taskTypeName: Required"):
            ns.create({"apiVersion": API, "kind": "AsyncTask", "metadata": {"name": "a"}, "spec": {}})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"payload": {"order": {"id": 2}}}, "spec.payload is immutable"),
            ({"payload": None}, "payload is immutable"),
            ({"taskTypeName": "other"}, "taskTypeName is immutable"),
            ({"lockKey": "k"}, "lockKey is immutable"),
            ({"idempotencyKey": None}, "idempotencyKey is immutable"),
            ({"cancel": False}, "cancel cannot be unset"),
            ({"cancel": None}, "cancel cannot be unset"),
        ],
    )
    def test_what_a_task_is_does_not_change(
        self, ns: Namespace, change: dict[str, Any], message: str
    ) -> None:
        ns.task("a", suspend=True, cancel=True, payload={"order": {"id": 1}}, idempotencyKey="i")
        with pytest.raises(Refused, match=message):
            ns.patch("AsyncTask", "a", {"spec": change})

    def test_a_payload_that_is_written_again_unchanged_is_no_change(self, ns: Namespace) -> None:
        ns.task("a", suspend=True, payload={"order": {"id": 1}})
        ns.patch("AsyncTask", "a", {"spec": {"payload": {"order": {"id": 1}}, "priority": 3}})


class TestShownOnTheTask:
    def test_an_unknown_type(self, ns: Namespace) -> None:
        ns.task("a", kind="late")
        condition = ns.condition("AsyncTask", "a", "Waiting")
        assert (condition["reason"], "late" in condition["message"]) == ("UnknownTaskType", True)
        ns.wait_event("a", "UnknownTaskType")
        ns.task_type("late")
        body = ns.wait_phase("a", "Succeeded")
        assert not [
            c for c in body["status"]["conditions"] if c["type"] == "Waiting" and c["status"] == "True"
        ]

    def test_a_template_that_the_api_server_rejects(self, ns: Namespace) -> None:
        ns.task_type("bad", pod=containers(volumeMounts=[{"name": "nowhere", "mountPath": "/x"}]))
        ns.task_type("good")
        ns.task("a", kind="bad")
        ns.task("b", kind="good")
        ready = ns.condition("TaskType", "bad", "Ready", status="False")
        assert (ready["reason"], "nowhere" in ready["message"]) == ("JobRejected", True)
        waiting = ns.condition("AsyncTask", "a", "Waiting")
        assert (waiting["reason"], "nowhere" in waiting["message"]) == ("TaskTypeNotReady", True)
        ns.wait_event("a", "TaskTypeNotReady")
        ns.wait_phase("b", "Succeeded")
        ns.patch("TaskType", "bad", {"spec": {"template": {"spec": containers(volumeMounts=[])}}})
        ns.wait_phase("a", "Succeeded")

    def test_a_full_quota_of_jobs(self, ns: Namespace) -> None:
        ns.task_type()
        ns.create(quota({"count/jobs.batch": "0"}))
        ns.wait("ResourceQuota", "q", lambda q: "hard" in (q.get("status") or {}))
        ns.task("a")
        condition = ns.condition("AsyncTask", "a", "Waiting")
        assert (condition["reason"], "exceeded quota" in condition["message"]) == ("QuotaExceeded", True)
        ns.wait_event("a", "QuotaExceeded")
        ns.delete("ResourceQuota", "q")
        ns.wait_phase("a", "Succeeded")

    def test_a_full_quota_of_pods(self, ns: Namespace) -> None:
        ns.task_type()
        ns.create(quota({"pods": "0"}))
        ns.wait("ResourceQuota", "q", lambda q: "hard" in (q.get("status") or {}))
        ns.task("a")
        condition = ns.condition("AsyncTask", "a", "Waiting")
        assert (condition["reason"], "exceeded quota" in condition["message"]) == ("QuotaExceeded", True)
        ns.delete("ResourceQuota", "q")
        ns.wait_phase("a", "Succeeded", seconds=90)

    def test_a_job_of_that_name_that_is_not_ours(self, ns: Namespace) -> None:
        ns.task_type()
        spec = {"template": {"spec": {**containers(), "restartPolicy": "Never"}}, "suspend": True}
        ns.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a-0-1"}, "spec": spec})
        ns.task("a")
        ns.task("b")
        condition = ns.condition("AsyncTask", "a", "Waiting")
        assert (condition["reason"], "a-0-1" in condition["message"]) == ("JobNameConflict", True)
        ns.wait_event("a", "JobNameConflict")
        ns.wait_phase("b", "Succeeded")
        ns.delete("Job", "a-0-1", propagationPolicy="Background")
        ns.wait_phase("a", "Succeeded")

    def test_a_number_beyond_64_bits_does_not_stop_the_task(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", payload={"n": 10**20})
        ns.wait_phase("a", "Succeeded")

    def test_a_policy_that_refuses_jobs_for_a_while(self, ns: Namespace, control_plane: Any) -> None:
        policy = refusal_of_jobs(ns.name)
        control_plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(policy))
        try:
            _wait_until_refused(ns)
            ns.task_type()
            ns.task("a")
            ready = ns.condition("TaskType", "t", "Ready", status="False")
            assert "no Jobs today" in ready["message"]
        finally:
            control_plane.kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(policy))
        ns.wait_phase("a", "Succeeded", seconds=120)

    def test_a_payload_that_is_too_large(self, ns: Namespace) -> None:
        ns.task_type()
        ns.task("a", payload={"x": "y" * 33_000})
        assert ns.wait_phase("a", "Failed")["status"]["reason"] == "PayloadTooLarge"

    def test_stages_are_not_in_force_yet_and_that_is_said(self, ns: Namespace) -> None:
        spec = {"stages": [{"name": "one", "template": {"spec": containers()}}]}
        ns.create({"apiVersion": API, "kind": "TaskType", "metadata": {"name": "s"}, "spec": spec})
        assert ns.condition("TaskType", "s", "Ready", status="False")["reason"] == "StagesNotSupported"


def _wait_until_refused(ns: Namespace) -> None:
    """Wait until the API server acts on a policy that was just made: its own watch takes a moment."""
    spec = {"template": {"spec": {**containers(), "restartPolicy": "Never"}}, "suspend": True}
    for number in range(100):
        try:
            ns.create(
                {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"try-{number}"}, "spec": spec}
            )
        except Refused:
            return
        time.sleep(0.2)
    raise AssertionError("the policy does not take hold")


def refusal_of_jobs(namespace: str) -> list[dict[str, Any]]:
    """Return a policy under which no Job can be created in a namespace."""
    group = "admissionregistration.k8s.io/v1"
    jobs = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    ours = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return [
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": namespace},
            "spec": {
                "matchConstraints": {"resourceRules": [jobs]},
                "validations": [{"expression": "false", "message": "no Jobs today"}],
            },
        },
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": namespace},
            "spec": {
                "policyName": namespace,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": ours},
            },
        },
    ]


def quota(hard: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}


class TestForPeople:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("tt.spec.deadlines.attemptSeconds", "activeDeadlineSeconds"),
            ("at.spec.payload", "At most 32 KiB"),
            ("at.status.attempts.proofOfDeath", "NeverStarted"),
            ("tt.spec.onNodeLost", "proofOfDeath: Waived"),
        ],
    )
    def test_explain(self, ns: Namespace, control_plane: Any, path: str, expected: str) -> None:
        told = control_plane.kubectl("explain", path)
        assert expected in " ".join(told.split())

    def test_one_line_says_why_a_task_waits(self, ns: Namespace, control_plane: Any) -> None:
        ns.task("a", kind="nix")
        ns.condition("AsyncTask", "a", "Waiting")
        line = control_plane.kubectl("-n", ns.name, "get", "at", "a", "--no-headers")
        assert line.split()[:4] == ["a", "nix", "Pending", "UnknownTaskType"]

    def test_defaults_show_in_what_is_stored(self, ns: Namespace) -> None:
        body = ns.create(
            {
                "apiVersion": API,
                "kind": "TaskType",
                "metadata": {"name": "d"},
                "spec": {"template": {"spec": pod()}},
            }
        )
        assert body["spec"]["deadlines"] == {"attemptSeconds": 180, "pendingSeconds": 900}
        assert body["spec"]["retry"]["backoff"]["initialSeconds"] == 10
        assert ns.task("a", kind="d")["status"]["phase"] == "Pending"


def pod() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(POD)
    return made
