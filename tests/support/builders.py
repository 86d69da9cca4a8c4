"""Objects for tests, as the API server would return them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, AsyncTaskStatus
from asyncflow.api.meta import format_time
from asyncflow.api.tasktype import TaskType
from asyncflow.controller.clock import utc_now
from asyncflow.controller.cluster_state import ClusterState
from asyncflow.controller.context import Context
from asyncflow.controller.garbage_collector import GarbageCollector
from asyncflow.core.attempt.identity import AttemptId
from asyncflow.core.lifecycle.actions import Decision
from asyncflow.core.lifecycle.decide import decide
from asyncflow.core.lifecycle.snapshot import Snapshot
from asyncflow.core.scheduling.admission import Admission
from asyncflow.core.views.execution import Execution
from asyncflow.core.views.pod import PodView
from asyncflow.kube.client import ApiClient
from asyncflow.kube.queue import WorkQueue
from asyncflow.kube.recorder import EventRecorder
from support.fake_api import FakeApiServer, FakeClient

T0 = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
NAMESPACE = "shop"


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after T0."""
    return T0 + timedelta(seconds=seconds)


def task(name: str = "order-1", *, status: dict[str, Any] | None = None, **spec: Any) -> AsyncTask:
    """Return a task, created at T0; a keyword sets a field of its spec by its API name."""
    return AsyncTask.model_validate(
        {
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "generation": 1,
                "creationTimestamp": format_time(T0),
            },
            "spec": {"taskTypeName": "poll", **spec},
            "status": status or {},
        }
    )


def task_type(
    *, ready: bool | None = True, generation: int = 1, pod: dict[str, Any] | None = None, **spec: Any
) -> TaskType:
    """Return a type, tried and found ready; a keyword sets a field of its spec by its API name."""
    conditions = []
    if ready is not None:
        conditions = [
            {"type": "Ready", "status": str(ready), "message": "says why", "observedGeneration": generation}
        ]
    return TaskType.model_validate(
        {
            "metadata": {
                "name": "poll",
                "namespace": NAMESPACE,
                "uid": "uid-type",
                "resourceVersion": "1",
                "generation": generation,
                "creationTimestamp": format_time(T0),
            },
            "spec": {
                "template": {"spec": {"containers": [{"name": "main", "image": "i"}], **(pod or {})}},
                **spec,
            },
            "status": {"conditions": conditions},
        }
    )


def annotated(of: AsyncTask, annotations: dict[str, str]) -> AsyncTask:
    """Return a task with annotations."""
    return of.model_copy(update={"metadata": of.metadata.model_copy(update={"annotations": annotations})})


def status_of(decision: Decision) -> AsyncTaskStatus:
    """Return the status that a decision writes."""
    assert decision.status is not None
    return decision.status


def written(of: AsyncTask, decision: Decision) -> AsyncTask:
    """Return the task after the decision's write."""
    return of.model_copy(update={"status": status_of(decision)})


def job(attempt: int = 1, *, name: str = "order-1", created: float = 0, **fields: Any) -> Execution:
    """Return the Job of an attempt, as seen by the operator; its pod is there."""
    view = Execution(
        namespace=NAMESPACE,
        name=f"{name}-0-{attempt}",
        uid=f"job-{name}-{attempt}",
        resource_version="1",
        task_uid=f"uid-{name}",
        task_name=name,
        type_name="poll",
        attempt=AttemptId(run=1, stage=0, number=attempt),
        created=at(created),
        has_pod=True,
        attempt_seconds=180,
        grace_seconds=30,
        margin_seconds=30,
        pending_seconds=900,
        deadline_seconds=1080,
        lease_token=attempt,
        lease_acquired=at(created),
        lease_expires=at(created + 1322),
    )
    return replace(view, **fields)


def completed(attempt: int = 1, at_second: float = 10, **fields: Any) -> Execution:
    """Return a Job that succeeded."""
    return job(attempt, complete=True, finish_time=at(at_second), **fields)


def failed(attempt: int = 1, at_second: float = 10, code: int = 1, **fields: Any) -> Execution:
    """Return a Job that its rule on exit codes failed."""
    defaults = {
        "failed": True,
        "reason": "PodFailurePolicy",
        "message": f"Container main for pod shop/p failed with exit code {code} "
        "matching FailJob rule at index 1",
        "finish_time": at(at_second),
        "exit_code": None if {"message", "reason"} & fields.keys() else code,
    }
    return job(attempt, **{**defaults, **fields})


def pod(of: Execution, **fields: Any) -> PodView:
    """Return the failed pod of a Job: exit code 1, reported by its kubelet."""
    view = PodView(
        namespace=NAMESPACE,
        name=f"{of.name}-abcde",
        uid=f"pod-{of.uid}",
        resource_version="1",
        task_uid=of.task_uid,
        job_uid=of.uid,
        phase="Failed",
        node_name="node-1",
        start_time=of.created,
        end_time=of.finish_time or of.created,
        exit_code=1,
        dead=True,
        attempt=of.attempt.number,
        job_name=of.name,
    )
    return replace(view, **fields)


def alive(of: Execution, **fields: Any) -> PodView:
    """Return the pod of a Job as it runs."""
    running = {"phase": "Running", "exit_code": None, "dead": False, "end_time": None, "created": of.created}
    return replace(pod(of), **{**running, **fields})


def task_body(name: str = "order-1", version: int = 1, uid: str | None = None, **spec: Any) -> dict[str, Any]:
    """Return a task as it comes over the wire."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.TASK_KIND,
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "generation": 1,
            "creationTimestamp": format_time(T0),
        },
        "spec": {"taskTypeName": "poll", **spec},
    }


def job_body(attempt: int = 1, version: int = 1, name: str = "order-1", **status: Any) -> dict[str, Any]:
    """Return a Job of ours as it comes over the wire."""
    return {
        "metadata": {
            "name": f"{name}-0-{attempt}",
            "namespace": NAMESPACE,
            "uid": f"job-{name}-{attempt}",
            "resourceVersion": str(version),
            "creationTimestamp": format_time(T0),
            "ownerReferences": [{"kind": names.TASK_KIND, "controller": True, "uid": f"uid-{name}"}],
            "labels": {
                names.MANAGED_BY_LABEL: names.MANAGED_BY,
                names.TASK_UID_LABEL: f"uid-{name}",
                names.TASK_NAME_LABEL: name,
                names.TYPE_LABEL: "poll",
                names.ATTEMPT_LABEL: str(attempt),
            },
        },
        "spec": {},
        "status": status,
    }


def pod_body(attempt: int = 1, version: int = 1, name: str = "order-1", **status: Any) -> dict[str, Any]:
    """Return a pod of ours as it comes over the wire."""
    job_meta = job_body(attempt, name=name)["metadata"]
    labels = {**job_meta["labels"], "batch.kubernetes.io/job-name": job_meta["name"]}
    return {
        "metadata": {
            "name": f"{name}-0-{attempt}-abcde",
            "namespace": NAMESPACE,
            "uid": f"pod-{name}-{attempt}",
            "resourceVersion": str(version),
            "creationTimestamp": format_time(T0),
            "labels": labels,
            "ownerReferences": [{"kind": "Job", "controller": True, "uid": f"job-{name}-{attempt}"}],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "main"}]},
        "status": {"phase": "Failed", **status},
    }


def look(seen: AsyncTask, seconds: float = 0, **known: Any) -> Decision:
    """Decide about a task at a moment; its type is there unless said otherwise."""
    decision = decide(Snapshot(**{"task": seen, "task_type": task_type(), **known}), at(seconds))
    assert decision.wake is None or decision.wake > at(seconds), "it would be asked again at once, forever"
    return decision


def context(
    state: ClusterState,
    *,
    client: ApiClient | None = None,
    admission: Admission | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Context:
    """Return what the parts of a leader's term share; nothing of it runs by itself."""
    client = client or FakeClient(FakeApiServer(clock))

    async def nothing(_: str) -> None: ...

    return Context(
        client=client,
        state=state,
        admission=admission or Admission(),
        recorder=EventRecorder(client, clock),
        garbage_collector=GarbageCollector(client, state, per_second=1000),
        tasks=WorkQueue(nothing, workers=1, clock=clock),
        types=WorkQueue(nothing, workers=1, clock=clock),
        clock=clock,
    )
