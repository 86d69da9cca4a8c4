"""Reads a Job as the execution of an attempt."""

from typing import Any

from asyncflow.api import names
from asyncflow.api.meta import parse_time
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.views.execution import EXIT_CODE, POLICY_REASON, Execution
from asyncflow.core.views.fields import count, json_object, number, optional_time, task_uid


def execution_of_job(body: dict[str, Any]) -> Execution | None:
    """Read a Job; return None if it is not the Job of an attempt."""
    meta = body["metadata"]
    labels = meta.get("labels") or {}
    annotations = meta.get("annotations") or {}
    owner_uid = task_uid(labels)
    owner: dict[str, Any] = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), {})
    if owner_uid is None or owner.get("uid") != owner_uid:
        return None  # a user's copy of such a Job: same labels, other owner
    status = body.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
    last = conditions.get("Complete") or conditions.get("Failed") or conditions.get("FailureTarget") or {}
    finish_time = optional_time(status.get("completionTime") or last.get("lastTransitionTime"))
    deleted = optional_time(meta.get("deletionTimestamp"))
    settings, lease = (
        json_object(annotations.get(name)) for name in (names.SETTINGS_ANNOTATION, names.LEASE_ANNOTATION)
    )
    return Execution(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        resource_version=meta["resourceVersion"],
        task_uid=owner_uid,
        task_name=labels.get(names.TASK_NAME_LABEL, ""),
        type_name=labels.get(names.TYPE_LABEL, ""),
        attempt=AttemptId(
            run=count(settings.get("run")) or 1,
            stage=count(settings.get("stage")),
            number=number(labels.get(names.ATTEMPT_LABEL)),
        ),
        created=parse_time(meta["creationTimestamp"]),
        deleting="deletionTimestamp" in meta,
        complete="Complete" in conditions,
        failed="Failed" in conditions,
        ending="FailureTarget" in conditions or "SuccessCriteriaMet" in conditions,
        reason=last.get("reason", ""),
        message=last.get("message", ""),
        finish_time=finish_time,
        exit_code=_exit_code(body, last),
        deleted_unfinished=deleted is not None and (finish_time is None or finish_time >= deleted),
        has_pod=any(status.get(name) for name in ("active", "terminating", "succeeded", "failed"))
        or any((status.get("uncountedTerminatedPods") or {}).values()),
        succeeded=status.get("succeeded", 0),
        suspended=bool((body.get("spec") or {}).get("suspend")),
        was_suspended=any(c["type"] == "Suspended" for c in status.get("conditions") or ()),
        stop_reason=annotations.get(names.STOP_REASON_ANNOTATION, ""),
        stop_message=annotations.get(names.STOP_MESSAGE_ANNOTATION, ""),
        never_bound=names.NEVER_BOUND_ANNOTATION in annotations,
        start_time=optional_time(status.get("startTime")),
        deadline_seconds=(body.get("spec") or {}).get("activeDeadlineSeconds") or 0,
        attempt_seconds=count(settings.get("attemptSeconds")),
        grace_seconds=count(settings.get("graceSeconds")),
        margin_seconds=count(settings.get("marginSeconds")),
        pending_seconds=count(settings.get("pendingSeconds")),
        lease_token=count(lease.get("token")),
        lease_acquired=optional_time(lease.get("acquired")),
        lease_expires=optional_time(lease.get("expires")),
    )


def _exit_code(body: dict[str, Any], condition: dict[str, Any]) -> int | None:
    """Return the exit code in the message of a failed Job; None for that of a sidecar."""
    found = EXIT_CODE.search(condition.get("message", ""))
    if found is None or condition.get("reason") != POLICY_REASON:
        return None
    spec = (((body.get("spec") or {}).get("template") or {}).get("spec")) or {}
    inits = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") != "Always"]
    own = {c.get("name") for c in (*inits, *(spec.get("containers") or ()))}
    return int(found.group(2)) if found.group(1) in own else None
