"""The Job of an attempt."""

import json
from datetime import datetime
from typing import Any

import orjson

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask
from asyncflow.api.meta import format_time
from asyncflow.api.template import PodTemplate
from asyncflow.core.attempt import lease
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.attempt.settings import AttemptSettings

MAX_PAYLOAD_BYTES = 32 * 1024
"""Limit for the payload as compact JSON. Linux limits an environment string to 128 KiB (MAX_ARG_STRLEN)."""

MAX_CONTAINER_RULES = 18
"""A ``podFailurePolicy`` has at most 20 rules."""

JOB_TTL_SECONDS = 2 * 86_400
"""A backstop for Jobs that no operator deletes; a running operator deletes them long before."""

DISRUPTION_RULE = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
NOT_ZERO = {"operator": "NotIn", "values": [0]}
"""A Job has one pod, so the Job's message names the rule that matched, with the exit code (KEP-3329)."""


def payload_text(task: AsyncTask) -> str:
    """Return the payload as compact JSON, as it is passed to the container."""
    payload = task.spec.payload or {}
    try:
        return orjson.dumps(payload).decode()
    except TypeError:  # orjson rejects integers beyond 64 bits; most parsers read them as doubles
        return json.dumps(payload, separators=(",", ":"), ensure_ascii=False)


def environment(
    task: AsyncTask, settings: AttemptSettings, attempt: AttemptId, token: int
) -> list[dict[str, str]]:
    """Return the environment variables that describe the task to its containers.

    The API server tracks each variable in ``managedFields``, in a Job and its pod, at each of their nine
    writes: one variable costs 1 to 2% of a cluster's throughput (``docs/benchmarks.md``). So there are no
    redundant ones.

    ``$`` is doubled: the kubelet expands ``$(NAME)`` and replaces ``$$`` with ``$`` (Kubernetes: "Define
    Dependent Environment Variables").
    """
    values = {
        "TASK": task.metadata.name,
        "PAYLOAD": payload_text(task),
        "RUN": str(attempt.run),
        "ATTEMPT": str(attempt.number),
        "FENCING_TOKEN": str(token),
        "IDEMPOTENCY_KEY": task.spec.idempotency_key or task.metadata.uid,
        "ATTEMPT_SECONDS": str(settings.attempt_seconds),
    }
    return [
        {"name": names.ENV_PREFIX + name, "value": text.replace("$", "$$")} for name, text in values.items()
    ]


def attempt_job(
    task: AsyncTask,
    settings: AttemptSettings,
    attempt: AttemptId,
    *,
    now: datetime,
    total_left: float | None = None,
    token: int | None = None,
) -> dict[str, Any]:
    """Return the manifest of an attempt's Job.

    Args:
        task: the task.
        settings: its effective settings.
        attempt: the identity of the attempt.
        now: when the lease is acquired.
        total_left: seconds left until the task's total deadline; None if it has none.
        token: the fencing token; by default the attempt's number, which only increases.
    """
    meta = task.metadata
    token = attempt.number if token is None else token
    deadline = lease.job_deadline_seconds(settings, total_left)
    labels = {
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        names.TASK_UID_LABEL: meta.uid,
        names.TASK_NAME_LABEL: meta.name,
        names.TYPE_LABEL: task.spec.task_type_name,
        names.ATTEMPT_LABEL: str(attempt.number),
    }
    name = attempt.job_name(meta.name)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": {**_foreign(settings.job_metadata.labels), **labels},
            "annotations": {
                **_foreign(settings.job_metadata.annotations),
                names.SETTINGS_ANNOTATION: _json(
                    run=attempt.run,
                    stage=attempt.stage,
                    attemptSeconds=settings.attempt_seconds,
                    graceSeconds=settings.grace_seconds,
                    marginSeconds=settings.margin_seconds,
                    pendingSeconds=settings.pending_seconds,
                ),
                names.LEASE_ANNOTATION: _json(
                    holder=name,
                    token=token,
                    acquired=format_time(now),
                    expires=format_time(lease.provisional_expiry(now, deadline, settings)),
                ),
            },
            # Kubernetes' own: when the task is deleted, the Job's name stays in use until its pods are gone.
            "finalizers": ["foregroundDeletion"],
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.TASK_KIND,
                    "name": meta.name,
                    "uid": meta.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules(settings.template)},
            "activeDeadlineSeconds": deadline,
            "ttlSecondsAfterFinished": JOB_TTL_SECONDS,
            "template": _pod_template(settings, labels, environment(task, settings, attempt, token)),
        },
    }


def _foreign(values: dict[str, str]) -> dict[str, str]:
    """Return labels or annotations without those of asyncflow, which are evidence about the attempt."""
    return {key: value for key, value in values.items() if not key.startswith(f"{names.GROUP}/")}


def _failure_rules(template: PodTemplate) -> list[dict[str, Any]]:
    """Return the rules that fail a Job with its pod.

    Beside native sidecars (KEP-753) each main container has a rule of its own: else the Job's message may
    have the exit code of a sidecar.
    """
    spec = template.to_api()["spec"]
    sidecars = any(c.get("restartPolicy") == "Always" for c in spec.get("initContainers") or ())
    mains = [c["name"] for c in spec["containers"]][:MAX_CONTAINER_RULES] if sidecars else []
    own = [{"action": "FailJob", "onExitCodes": {"containerName": c, **NOT_ZERO}} for c in mains]
    return [DISRUPTION_RULE, *own, {"action": "FailJob", "onExitCodes": NOT_ZERO}]


def _json(**values: int | str) -> str:
    return orjson.dumps(values).decode()


PROTECTED_FIELDS = (
    ("spec", "backoffLimit"),
    ("spec", "completions"),
    ("spec", "parallelism"),
    ("spec", "podReplacementPolicy"),
    ("spec", "activeDeadlineSeconds"),
    ("spec", "template", "spec", "activeDeadlineSeconds"),
    ("spec", "template", "spec", "restartPolicy"),
    ("spec", "template", "spec", "terminationGracePeriodSeconds"),
)
"""The fields of a Job on which guarantees depend: an admission webhook that changes one breaks them."""


def mutation_message(requested: dict[str, Any], created: dict[str, Any]) -> str:
    """Return a message about the first protected field of a Job that admission changed; empty if none.

    Args:
        requested: the manifest in the create request.
        created: the Job that the API server returned.
    """
    for path in PROTECTED_FIELDS:
        expected, actual = _at(requested, path), _at(created, path)
        if expected is not None and actual != expected:
            return (
                f"an admission webhook or policy changes the Job's {'.'.join(path)} "
                f"from {expected} to {actual}, on which a guarantee depends: exempt Jobs with the label "
                f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
            )
    return ""


def _at(body: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        body = body.get(part) if isinstance(body, dict) else None
    return body


def _pod_template(
    settings: AttemptSettings, labels: dict[str, str], env: list[dict[str, str]]
) -> dict[str, Any]:
    template = settings.template.to_api()
    spec = template["spec"]
    for container in [*spec["containers"], *(spec.get("initContainers") or ())]:
        # The operator's variables come first, so that the template's own may refer to them.
        container["env"] = [*env, *_without_reserved(container.get("env") or ())]
    spec["restartPolicy"] = "Never"
    spec["activeDeadlineSeconds"] = settings.attempt_seconds
    spec["terminationGracePeriodSeconds"] = settings.grace_seconds  # explicit, so that a change is noticed
    meta = template.get("metadata") or {}
    return {"metadata": {**meta, "labels": {**(meta.get("labels") or {}), **labels}}, "spec": spec}


def _without_reserved(env: Any) -> list[dict[str, Any]]:
    return [entry for entry in env if not entry.get("name", "").startswith(names.ENV_PREFIX)]
