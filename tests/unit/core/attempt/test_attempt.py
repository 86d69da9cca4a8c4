"""The smaller parts of the core: backoff, leases, names, the Job, the environment."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncflow.api import names
from asyncflow.api.limits import Backoff
from asyncflow.core.attempt import lease
from asyncflow.core.attempt.backoff import pause_seconds
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.attempt.manifest import attempt_job, mutation_message
from asyncflow.core.attempt.settings import AttemptSettings, effective_settings
from asyncflow.core.tasktype.readiness import needs_dry_run, with_dry_run_result
from asyncflow.core.tasktype.snapshot import DryRunResult
from asyncflow.core.views.job import execution_of_job
from asyncflow.core.views.pod import pod_view
from support.builders import T0, at, job_body, pod_body, task, task_type

CONTAINER_PAGE = Path(__file__).parents[4] / "docs/how-to/write-a-container.md"


def rules(**spec: Any) -> AttemptSettings:
    made = effective_settings(task(), task_type(**spec))
    assert made is not None
    return made


class TestBackoff:
    @given(st.integers(0, 10_000), st.integers(0, 100), st.text())
    def test_it_stays_within_its_bounds(self, retries: int, jitter: int, seed: str) -> None:
        backoff = Backoff(initial_seconds=10, multiplier=3, maximum_seconds=100, jitter_percent=jitter)
        pause = pause_seconds(backoff, retries, seed)
        middle = min(100, 10 * 3 ** min(retries, 10))
        assert middle * (1 - jitter / 100) <= pause <= middle * (1 + jitter / 100)

    def test_tasks_that_failed_together_do_not_return_together(self) -> None:
        pauses = {pause_seconds(Backoff(), 0, f"task-{n}") for n in range(100)}
        assert len(pauses) == 100
        assert max(pauses) - min(pauses) > 2


class TestLease:
    def test_the_arithmetic(self) -> None:
        made = rules(deadlines={"attemptSeconds": 100, "pendingSeconds": 50}, lease={"marginSeconds": 7})
        assert lease.job_deadline_seconds(made, None) == 150
        assert lease.provisional_expiry(T0, 150, made) == at(150 + 100 + 30 + 2 + 7)
        assert lease.running_expiry(T0, attempt_seconds=100, grace_seconds=30, margin_seconds=7) == at(
            100 + 30 + 2 + 7
        )

    @given(st.floats(-1e6, 1e6))
    def test_the_total_cuts_the_jobs_deadline_and_never_to_nothing(self, left: float) -> None:
        deadline = lease.job_deadline_seconds(rules(), left)
        assert 1 <= deadline <= 1080
        assert deadline <= max(0, left) + lease.BACKSTOP_SECONDS


class TestJob:
    def test_names_can_be_read_back(self) -> None:
        seen = {
            AttemptId(1, 0, n).job_name(name): (name, n)
            for name in ("a", "a-0", "a-0-1", "a-1")
            for n in range(1, 30)
        }
        assert len(seen) == 4 * 29
        assert len(AttemptId(1, 99, 9_999_999).job_name("x" * names.TASK_NAME_MAX)) <= 63

    def test_one_job_is_one_pod_with_a_deadline_of_its_own(self) -> None:
        made = attempt_job(task(), rules(), AttemptId(1, 0, 2), now=T0)
        spec, template = made["spec"], made["spec"]["template"]["spec"]
        assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
        assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["FailJob", "FailJob"]
        assert spec["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["type"] == "DisruptionTarget"
        assert (template["activeDeadlineSeconds"], template["restartPolicy"]) == (180, "Never")
        assert spec["activeDeadlineSeconds"] == 900 + 180
        owner = made["metadata"]["ownerReferences"][0]
        assert (owner["uid"], owner["controller"]) == ("uid-order-1", True)
        assert orjson.loads(made["metadata"]["annotations"][names.LEASE_ANNOTATION]) == {
            "holder": "order-1-0-2",
            "token": 2,
            "acquired": "2026-01-01T12:00:00Z",
            "expires": "2026-01-01T12:22:02Z",
        }

    @pytest.mark.parametrize(
        "text", ["", "no JSON", "[]", '{"run": "1", "stage": -1, "attemptSeconds": null}']
    )
    def test_an_annotation_that_somebody_changed_is_read_as_none(self, text: str) -> None:
        made = attempt_job(task(), rules(), AttemptId(3, 0, 2), now=T0)
        made["metadata"] |= {"uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T12:00:00Z"}
        made["metadata"]["annotations"] = {names.SETTINGS_ANNOTATION: text, names.LEASE_ANNOTATION: text}
        seen = execution_of_job(made)
        assert seen is not None
        assert (
            seen.attempt.run,
            seen.attempt.stage,
            seen.attempt_seconds,
            seen.lease_token,
            seen.lease_expires,
        ) == (
            1,
            0,
            0,
            0,
            None,
        )

    def test_the_operator_reads_what_it_wrote(self) -> None:
        made = attempt_job(task(), rules(), AttemptId(1, 0, 2), now=T0)
        made["metadata"] |= {"uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T12:00:00Z"}
        view = execution_of_job(made)
        assert view is not None
        assert (view.task_uid, view.attempt, view.lease_token) == ("uid-order-1", AttemptId(1, 0, 2), 2)
        assert view.attempt_seconds == 180

    @given(st.text(alphabet=st.sampled_from('$()AB ü"\\\n'), max_size=12))
    @example("$$5")
    @example("$(HOME)")
    def test_the_payload_arrives_as_it_was_written(self, text: str) -> None:
        import orjson

        made = attempt_job(task(payload={"x": text}), rules(), AttemptId(1, 0, 1), now=T0)
        env = {e["name"]: e["value"] for e in made["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert orjson.loads(_as_the_kubelet_expands(env["ASYNCFLOW_PAYLOAD"])) == {"x": text}

    def test_the_documentation_names_what_a_container_is_told(self) -> None:
        made = attempt_job(task(), rules(), AttemptId(1, 0, 1), now=T0)
        told = {entry["name"] for entry in made["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert set(re.findall(r"^\| `(ASYNCFLOW_\w+)`", CONTAINER_PAGE.read_text(), re.MULTILINE)) == told

    def test_the_type_cannot_forge_what_a_container_is_told(self) -> None:
        forged = {
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "env": [{"name": "ASYNCFLOW_ATTEMPT", "value": "9"}, {"name": "X", "value": "y"}],
                    }
                ]
            }
        }
        made = attempt_job(task(), rules(template=forged), AttemptId(1, 0, 1), now=T0)
        env = made["spec"]["template"]["spec"]["containers"][0]["env"]
        assert [e["value"] for e in env if e["name"] == "ASYNCFLOW_ATTEMPT"] == ["1"]
        assert {"name": "X", "value": "y"} in env

    def test_fields_that_asyncflow_does_not_know_are_kept(self) -> None:
        pod = {
            "containers": [{"name": "m", "resources": {"limits": {"cpu": "1"}}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }
        made = attempt_job(task(), rules(template={"spec": pod}), AttemptId(1, 0, 1), now=T0)
        spec = made["spec"]["template"]["spec"]
        assert spec["volumes"] == pod["volumes"]
        assert spec["containers"][0]["resources"] == {"limits": {"cpu": "1"}}


def _as_the_kubelet_expands(text: str) -> str:
    """Expand as the kubelet does ("Define Dependent Environment Variables"); each variable is empty."""
    return re.sub(r"\$(\$|\([A-Z]+\))", lambda found: "$" if found[1] == "$" else "", text)


class TestObserved:
    def test_foreign_jobs_and_pods_are_passed_over(self) -> None:
        body = job_body()
        del body["metadata"]["labels"][names.MANAGED_BY_LABEL]
        assert execution_of_job(body) is None

    @pytest.mark.parametrize(
        ("states", "code", "dead"),
        [
            ([{"terminated": {"exitCode": 3}}], 3, True),
            ([{"terminated": {"exitCode": 0}}], 0, True),
            ([{"running": {}}], None, False),
            ([{"waiting": {"reason": "ErrImagePull"}}], None, True),
            ([], None, False),
        ],
    )
    def test_a_pods_exit_code(self, states: list[dict[str, object]], code: int | None, dead: bool) -> None:
        view = pod_view(pod_body(containerStatuses=[{"state": state} for state in states]))
        assert view is not None
        assert (view.exit_code, view.dead) == (code, dead)

    @pytest.mark.parametrize(
        ("first", "second", "dead"),
        [
            ({"terminated": {"exitCode": 0}}, {"waiting": {"reason": "PodInitializing"}}, True),
            ({"terminated": {"exitCode": 1}}, {"running": {}}, False),
            ({"terminated": {"exitCode": 143}}, {"waiting": {"reason": "PodInitializing"}}, True),
            ({"terminated": {"exitCode": 0}}, {"terminated": {"exitCode": 3}}, True),
        ],
    )
    def test_a_pod_is_dead_when_the_kubelet_has_said_so_of_every_container(
        self, first: dict[str, object], second: dict[str, object], dead: bool
    ) -> None:
        body = pod_body(initContainerStatuses=[{"state": first}], containerStatuses=[{"state": second}])
        body["spec"]["initContainers"] = [{"name": "first"}]
        view = pod_view(body)
        assert view is not None
        assert view.dead is dead
        del body["status"]["containerStatuses"]
        unsaid = pod_view(body)
        assert unsaid is not None
        assert not unsaid.dead


class TestJobMetadata:
    def test_labels_and_annotations_of_the_type_are_on_the_job_and_do_not_replace_its_own(self) -> None:
        meta = {
            "labels": {
                "kueue.x-k8s.io/queue-name": "q",
                names.ATTEMPT_LABEL: "9",
                "app.kubernetes.io/managed-by": "x",
            },
            "annotations": {"a.example/b": "c", names.NEVER_BOUND_ANNOTATION: "faked"},
        }
        found = attempt_job(task(), rules(jobMetadata=meta), AttemptId(1, 0, 1), now=T0)["metadata"]
        assert found["labels"]["kueue.x-k8s.io/queue-name"] == "q"
        assert found["labels"][names.ATTEMPT_LABEL] == "1"
        assert found["labels"][names.MANAGED_BY_LABEL] == names.MANAGED_BY
        assert found["annotations"]["a.example/b"] == "c"
        assert names.NEVER_BOUND_ANNOTATION not in found["annotations"]


class TestMutated:
    """What an admission webhook must not change of a Job."""

    def test_a_changed_deadline_is_named_with_its_remedy(self) -> None:
        job = attempt_job(task(), rules(), AttemptId(1, 0, 1), now=T0)
        changed = deepcopy(job)
        changed["spec"]["template"]["spec"]["activeDeadlineSeconds"] = 9999
        message = mutation_message(job, changed)
        assert "spec.template.spec.activeDeadlineSeconds from 180 to 9999" in message
        assert "exempt Jobs with the label" in message

    def test_so_is_a_changed_grace_period_that_the_template_leaves_to_its_default(self) -> None:
        job = attempt_job(task(), rules(), AttemptId(1, 0, 1), now=T0)
        changed = deepcopy(job)
        changed["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0
        assert "terminationGracePeriodSeconds from 30 to 0" in mutation_message(job, changed)

    def test_what_a_queueing_controller_changes_is_accepted(self) -> None:
        job = attempt_job(task(), rules(), AttemptId(1, 0, 1), now=T0)
        changed = deepcopy(job)
        changed["spec"]["suspend"] = True
        assert mutation_message(job, changed) == ""


class TestDryRun:
    def test_each_generation_gets_one_dry_run(self) -> None:
        new = task_type(ready=None)
        assert needs_dry_run(new)
        status = with_dry_run_result(new, DryRunResult(), T0)
        assert not needs_dry_run(new.model_copy(update={"status": status}))
        changed = new.metadata.model_copy(update={"generation": 2})
        assert needs_dry_run(new.model_copy(update={"status": status, "metadata": changed}))
