"""The Job of an attempt."""

import json
from datetime import datetime
from typing import Any

import orjson

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask
from asyncflow.api.meta import format_time
from asyncflow.core.attempt import lease
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.attempt.settings import AttemptSettings

MAX_PAYLOAD_BYTES = 32 * 1024
"""Of the payload as compact JSON; a single environment string has 128 KiB in Linux (MAX_ARG_STRLEN)."""

JOB_TTL_SECONDS = 2 * 86_400
"""A backstop for Jobs that no operator deletes; the operator deletes them long before."""

POD_FAILURE_POLICY = {
    "rules": [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]
}
"""One Job, one pod; the Job's message then keeps which rule it was, with the exit code (KEP-3329)."""


def payload_text(task: AsyncTask) -> str:
    """Return the payload as compact JSON, as the container gets it."""
    payload = task.spec.payload or {}
    try:
        return orjson.dumps(payload).decode()
    except TypeError:  # an integer beyond 64 bits: let it through, a double to most readers
        return json.dumps(payload, separators=(",", ":"), ensure_ascii=False)


def environment(
    task: AsyncTask, settings: AttemptSettings, attempt: AttemptId, token: int
) -> list[dict[str, str]]:
    """Return what a container is told of its task.

    Each variable is a field that the API server keeps account of, in a Job and its pod, at each of their nine
    writes: one costs 1 to 2% of what a cluster can run (``docs/benchmarks.md``). So none that says nothing.

    ``$`` is doubled: the kubelet expands ``$(NAME)`` and reads ``$$`` as ``$`` (Kubernetes: "Define Dependent
    Environment Variables").
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
        task: whose attempt it is.
        settings: the settings that hold for it.
        attempt: which one.
        now: when the lease is taken.
        total_left: seconds left of the task's total deadline, if it has one.
        token: its fencing token; by default the attempt's number, which only grows.
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
            "labels": labels,
            "annotations": {
                names.SETTINGS_ANNOTATION: _text(
                    run=attempt.run,
                    stage=attempt.stage,
                    attemptSeconds=settings.attempt_seconds,
                    graceSeconds=settings.grace_seconds,
                    marginSeconds=settings.margin_seconds,
                    pendingSeconds=settings.pending_seconds,
                ),
                names.LEASE_ANNOTATION: _text(
                    holder=name,
                    token=token,
                    acquired=format_time(now),
                    expires=format_time(lease.provisional_expiry(now, deadline, settings)),
                ),
            },
            # Kubernetes' own: when the task is deleted, the Job's name stays taken until its pods are gone.
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
            "podFailurePolicy": POD_FAILURE_POLICY,
            "activeDeadlineSeconds": deadline,
            "ttlSecondsAfterFinished": JOB_TTL_SECONDS,
            "template": _pod_template(settings, labels, environment(task, settings, attempt, token)),
        },
    }


def _text(**values: int | str) -> str:
    return orjson.dumps(values).decode()


KEPT = (
    ("spec", "backoffLimit"),
    ("spec", "completions"),
    ("spec", "parallelism"),
    ("spec", "podReplacementPolicy"),
    ("spec", "activeDeadlineSeconds"),
    ("spec", "template", "spec", "activeDeadlineSeconds"),
    ("spec", "template", "spec", "restartPolicy"),
    ("spec", "template", "spec", "terminationGracePeriodSeconds"),
)
"""What the promises rest on: an admission webhook that changes it breaks them."""


def altered(asked: dict[str, Any], made: dict[str, Any]) -> str:
    """Return which field of a Job, that a promise rests on, the API server changed; empty if it did not."""
    for path in KEPT:
        ours, theirs = _at(asked, path), _at(made, path)
        if ours is not None and theirs != ours:
            return (
                f"an admission webhook or policy changes the Job's {'.'.join(path)} from {ours} to {theirs}, "
                "on which a guarantee depends: exempt Jobs with the label "
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
        container["env"] = [
            *env,
            *_foreign(container.get("env") or ()),
        ]  # ours first: others may refer to them
    spec["restartPolicy"] = "Never"
    spec["activeDeadlineSeconds"] = settings.attempt_seconds
    meta = template.get("metadata") or {}
    return {"metadata": {**meta, "labels": {**(meta.get("labels") or {}), **labels}}, "spec": spec}


def _foreign(env: Any) -> list[dict[str, Any]]:
    return [entry for entry in env if not entry.get("name", "").startswith(names.ENV_PREFIX)]
