"""The cluster of the crash model.

Each actor does one small thing at a time, whenever it is told to: nobody is quick, nobody is reliable. What
an operator is told of the cluster is what the API server says; what truly runs is in ``processes``.
"""

import copy
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from asyncflow.api import names
from asyncflow.api.meta import format_time
from asyncflow.kube.client import JOBS, LEASES, NODES, PODS, TASKS, TYPES, ApiError, Body, Listing, Resource
from support.builders import NAMESPACE, T0

KINDS = (TYPES, TASKS, JOBS, LEASES, PODS, NODES)


class Violation(AssertionError):
    """Something happened that must never happen."""


@dataclass
class Process:
    """What truly runs on a node."""

    pod: str
    task: str
    attempt: int
    key: str
    token: int
    node: str
    deadline: datetime


@dataclass
class Request:
    """A request of an operator, in flight."""

    method: str
    resource: Resource
    name: str = ""
    body: Body = field(default_factory=dict)
    uid: str = ""
    version: str | None = None
    subresource: str | None = None
    labels: str | None = None
    fields: str | None = None
    dry_run: bool = False
    sent: datetime = T0

    @property
    def writes(self) -> bool:
        return self.method not in ("get", "list") and not self.dry_run


@dataclass
class Node:
    """A machine: its kubelet may be dead while its processes live on."""

    name: str
    kubelet: bool = True
    boot: int = 1


class World:
    """Objects, machines and processes. Every change of an object is told to all watchers, in order."""

    def __init__(self) -> None:
        self.now = T0
        self.version = 100
        self.objects: dict[Resource, dict[str, Body]] = {task_type: {} for task_type in KINDS}
        self.watchers: list[deque[tuple[Resource, str, Body]]] = []
        self.nodes = {name: Node(name) for name in ("n1", "n2")}
        self.processes: dict[str, Process] = {}
        self.executed: dict[tuple[str, int], str] = {}
        """By task and attempt: the pod that ran it. No attempt runs twice."""
        self.tokens: dict[str, int] = {}
        """The highest token of any process, by key."""
        self.keys: dict[str, str] = {}
        """The lockKeys of tasks, also of such that were deleted."""
        for node in self.nodes.values():
            self.put_node(node)

    # The API server

    def handle(self, request: Request) -> Any:
        """Do what a request asks for."""
        found = self.objects.get(request.resource, {}).get(request.name)
        match request.method:
            case "get":
                return copy.deepcopy(self._existing(found))
            case "list":
                return Listing([copy.deepcopy(o) for o in self._selected(request)], str(self.version))
            case "create":
                return self._create(request)
            case "patch":
                return self._patch(request, self._existing(found))
            case "delete":
                return self._delete(request, self._existing(found))
        raise AssertionError(request.method)

    def _existing(self, found: Body | None) -> Body:
        if found is None:
            raise ApiError(404, "NotFound", "it is not there")
        return found

    def _selected(self, request: Request) -> Iterator[Body]:
        for body in self.objects.get(request.resource, {}).values():
            labels, phase = body["metadata"].get("labels", {}), body.get("status", {}).get("phase")
            wanted = [term.partition("=") for term in (request.labels or "").split(",") if term]
            if not all(key in labels and (not eq or labels[key] == value) for key, eq, value in wanted):
                continue
            unwanted = [f.partition("!=")[2] for f in (request.fields or "").split(",") if "phase!=" in f]
            if phase not in unwanted:
                yield body

    def _create(self, request: Request) -> Body:
        body = copy.deepcopy(request.body)
        name = body["metadata"]["name"]
        if request.dry_run:
            return body
        if name in self.objects[request.resource]:
            raise ApiError(409, "AlreadyExists", f"{name} is there already")
        body["metadata"].setdefault("uid", f"{request.resource.plural}-{self.version + 1}")
        body["metadata"].setdefault("namespace", NAMESPACE)
        body["metadata"]["creationTimestamp"] = format_time(self.now)
        body.setdefault("status", {})
        self.objects[request.resource][name] = body
        return self.changed(request.resource, name, "ADDED")

    def _patch(self, request: Request, found: Body) -> Body:
        patch, meta = request.body, request.body.get("metadata", {})
        for field_name in ("uid", "resourceVersion"):
            if field_name in meta and meta[field_name] != found["metadata"][field_name]:
                raise ApiError(409, "Conflict", "it has changed")
        if request.subresource == "status":
            patch = {"status": patch.get("status", {})}
        elif "annotations" in meta:
            patch = {**patch, "metadata": {"annotations": meta["annotations"]}}
        else:
            patch = {key: value for key, value in patch.items() if key != "metadata"}
        _merge(found, patch)
        return self.changed(request.resource, request.name)

    def _delete(self, request: Request, found: Body) -> Body:
        meta = found["metadata"]
        if request.uid != meta["uid"] or request.version not in (None, meta["resourceVersion"]):
            raise ApiError(409, "Conflict", "it has changed")
        self.delete(request.resource, request.name)
        return found

    def changed(self, task_type: Resource, name: str, event: str = "MODIFIED") -> Body:
        """Give an object a new version and tell the watchers."""
        body = self.objects[task_type][name]
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        if task_type is not NODES and (task_type is not PODS or body["status"].get("phase") == "Failed"):
            for watcher in self.watchers:
                watcher.append((task_type, event, copy.deepcopy(body)))
        return copy.deepcopy(body)

    def delete(self, task_type: Resource, name: str) -> None:
        """Delete an object as a user does: a Job or a pod that runs goes when its work is over."""
        body = self.objects[task_type][name]
        if task_type in (JOBS, PODS):
            if "deletionTimestamp" not in body["metadata"]:
                body["metadata"]["deletionTimestamp"] = format_time(self.now)
                self.changed(task_type, name)
        else:
            self.remove(task_type, name)

    def remove(self, task_type: Resource, name: str) -> None:
        """Take an object away."""
        self.changed(task_type, name, "DELETED")
        del self.objects[task_type][name]

    # Time and processes

    def advance(self, seconds: float) -> None:
        """Let time pass. A living kubelet kills what is over its deadline, whatever it has reported."""
        self.now += timedelta(seconds=seconds)
        for pod, process in list(self.processes.items()):
            if self.nodes[process.node].kubelet and self.now >= process.deadline:
                self._terminate(pod, 137, "DeadlineExceeded")

    def start_process(self, pod: Body) -> None:
        """Start what a pod says, and see that it may run."""
        env = {e["name"]: e["value"] for e in pod["spec"]["containers"][0]["env"]}
        labels, name = pod["metadata"]["labels"], pod["metadata"]["name"]
        task = labels[names.TASK_UID_LABEL]
        seconds = pod["spec"]["activeDeadlineSeconds"] + GRACE + KUBELET
        process = Process(
            pod=name,
            task=task,
            attempt=int(env["ASYNCFLOW_ATTEMPT"]),
            key=self.keys.get(task, ""),
            token=int(env["ASYNCFLOW_FENCING_TOKEN"]),
            node=pod["spec"]["nodeName"],
            deadline=self.now + timedelta(seconds=seconds),
        )
        for other in self.processes.values():
            if other.task == process.task:
                raise Violation(f"two attempts of {task} run: {other} and {process}")
            if process.key and other.key == process.key:
                raise Violation(f"two processes of key {process.key} run: {other} and {process}")
        if (task, process.attempt) in self.executed:
            raise Violation(f"attempt {process.attempt} of {task} runs a second time")
        scope = process.key or task
        if process.token <= self.tokens.get(scope, 0):
            raise Violation(f"token {process.token} of {scope} is not above {self.tokens[scope]}")
        self.executed[task, process.attempt] = name
        self.tokens[scope] = process.token
        self.processes[name] = process

    def _terminate(self, name: str, code: int, reason: str = "") -> None:
        """End a process, and have its kubelet say so."""
        self.processes.pop(name, None)
        pod = self.objects[PODS].get(name)
        if pod is None or pod["status"].get("phase") in ("Failed", "Succeeded"):
            return
        pod["status"] |= {
            "phase": "Failed" if code or reason else "Succeeded",
            "containerStatuses": [
                {"state": {"terminated": {"exitCode": code, "finishedAt": format_time(self.now)}}}
            ],
        }
        if reason:
            pod["status"]["reason"] = reason
        self.changed(PODS, name)

    # The kubelets

    def kubelet(self, pod_name: str, exit_code: int | None) -> bool:
        """Let a pod's kubelet do the next thing for it; tell whether there was one.

        Args:
            pod_name: the pod.
            exit_code: what its process ends with now; None lets it run.
        """
        pod = self.objects[PODS].get(pod_name)
        if pod is None or "nodeName" not in pod["spec"]:
            return False
        node = self.nodes[pod["spec"]["nodeName"]]
        if not node.kubelet or pod["status"].get("phase") in ("Failed", "Succeeded"):
            return False
        deleting = "deletionTimestamp" in pod["metadata"]
        if pod_name in self.processes:
            process = self.processes[pod_name]
            short = timedelta(seconds=pod["spec"]["activeDeadlineSeconds"] + GRACE + KUBELET)
            started = pod["status"]["startTime"]
            process.deadline = min(process.deadline, datetime.fromisoformat(started) + short)
            if deleting:
                self._terminate(pod_name, 143)
            elif self.now >= process.deadline:
                self._terminate(pod_name, 137, "DeadlineExceeded")
            elif exit_code is not None:
                self._terminate(pod_name, exit_code)
            else:
                return False
        elif "startTime" in pod["status"]:
            self._terminate(pod_name, 255)  # its machine was booted anew: what ran there is gone
        elif deleting:
            self._terminate(pod_name, 143)
        else:
            pod["status"] |= {"startTime": format_time(self.now), "phase": "Running"}
            self.start_process(pod)
            self.changed(PODS, pod_name)
        return True

    def kubelet_clean_up(self, name: str) -> bool:
        """A kubelet kills what no pod of the API server stands for."""
        node, killed = self.nodes[name], False
        if not node.kubelet:
            return False
        for pod_name, process in list(self.processes.items()):
            pod = self.objects[PODS].get(pod_name)
            if process.node == name and (
                pod is None or pod["status"].get("phase") in ("Failed", "Succeeded")
            ):
                del self.processes[pod_name]
                killed = True
        return killed

    def reboot(self, name: str) -> None:
        """Boot a machine anew: its processes are gone, its kubelet is back."""
        node = self.nodes[name]
        self.power_off(name)
        node.boot += 1
        node.kubelet = True
        self.put_node(node)

    def power_off(self, name: str) -> None:
        """Switch a machine off."""
        self.nodes[name].kubelet = False
        for pod_name, process in list(self.processes.items()):
            if process.node == name:
                del self.processes[pod_name]

    def put_node(self, node: Node, *, out_of_service: bool = False) -> None:
        taints = [{"key": names.OUT_OF_SERVICE_TAINT}] if out_of_service else []
        self.objects[NODES][node.name] = {
            "metadata": {"name": node.name, "uid": node.name},
            "spec": {"taints": taints},
            "status": {
                "conditions": [{"type": "Ready", "status": str(node.kubelet)}],
                "nodeInfo": {"systemUUID": f"machine-{node.name}", "bootID": f"boot-{node.boot}"},
            },
        }
        self.changed(NODES, node.name)

    # Kubernetes' controllers

    def schedule(self, pod_name: str, node: str) -> bool:
        """Bind a pod to a node."""
        pod = self.objects[PODS].get(pod_name)
        if pod is None or "nodeName" in pod["spec"] or "deletionTimestamp" in pod["metadata"]:
            return False
        if node not in self.objects[NODES] or pod["status"].get("phase") == "Failed":
            return False
        if self.objects[NODES][node]["spec"]["taints"]:
            return False
        pod["spec"]["nodeName"] = node
        self.changed(PODS, pod_name)
        return True

    def job_controller(self, name: str) -> bool:
        """Do the next thing for a Job; tell whether there was one."""
        job = self.objects[JOBS].get(name)
        if job is None:
            return False
        status, spec = job["status"], job["spec"]
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        pods = [p for p in self.objects[PODS].values() if p["metadata"]["jobUid"] == job["metadata"]["uid"]]
        active = [p for p in pods if p["status"].get("phase") not in ("Failed", "Succeeded")]
        for pod in active:
            if "deletionTimestamp" in pod["metadata"] and "nodeName" not in pod["spec"]:
                pod["status"]["phase"] = "Failed"
                self.changed(PODS, pod["metadata"]["name"])
                return True
        if "Complete" in conditions or "Failed" in conditions:
            return False
        if "FailureTarget" in conditions:
            return self._finish_failed(job, conditions["FailureTarget"], active)
        ended = [p for p in pods if p not in active and not p["metadata"].get("counted")]
        if ended:
            return self._count(job, ended[0])
        if "startTime" not in status:
            status["startTime"] = format_time(self.now)
            self.changed(JOBS, name)
            return True
        began = datetime.fromisoformat(status["startTime"])
        if self.now >= began + timedelta(seconds=spec["activeDeadlineSeconds"]):
            return self._fail(job, "DeadlineExceeded", "Job was active longer than specified deadline")
        if "deletionTimestamp" in job["metadata"]:
            return False
        if not active and not status.get("succeeded"):
            self._make_pod(job)
            return True
        return False

    def _make_pod(self, job: Body) -> None:
        name = f"{job['metadata']['name']}-{self.version}"
        template = copy.deepcopy(job["spec"]["template"])
        meta = {
            **template["metadata"],
            "name": name,
            "jobUid": job["metadata"]["uid"],
            "ownerReferences": [{"kind": "Job", "controller": True, "uid": job["metadata"]["uid"]}],
        }
        meta["labels"]["batch.kubernetes.io/job-name"] = job["metadata"]["name"]
        pod = {"metadata": meta, "spec": template["spec"], "status": {"phase": "Pending"}}
        self.handle(Request("create", PODS, name, pod))
        job["status"]["active"] = 1
        self.changed(JOBS, job["metadata"]["name"])

    def _count(self, job: Body, pod: Body) -> bool:
        """Count a pod that has ended, by the Job's own policy."""
        pod["metadata"]["counted"] = True
        job["status"].pop("active", None)
        if pod["status"]["phase"] == "Succeeded":
            job["status"]["succeeded"] = 1
            job["status"]["completionTime"] = format_time(self.now)
            return self._end(job, "Complete", "CompletionsReached", "")
        job["status"]["failed"] = job["status"].get("failed", 0) + 1
        codes = [c["state"]["terminated"]["exitCode"] for c in pod["status"].get("containerStatuses", ())]
        disrupted = any(c["type"] == "DisruptionTarget" for c in pod["status"].get("conditions", ()))
        for number, rule in enumerate(job["spec"]["podFailurePolicy"]["rules"]):
            where = f"{rule['action']} rule at index {number}"
            name = pod["metadata"]["name"]
            if "onPodConditions" in rule and disrupted:
                message = f"Pod shop/{name} has condition DisruptionTarget matching {where}"
            elif "onExitCodes" in rule and any(codes):
                code = next(code for code in codes if code)
                message = f"Container main for pod shop/{name} failed with exit code {code} matching {where}"
            else:
                continue
            if rule["action"] == "Ignore":
                self.changed(JOBS, job["metadata"]["name"])
                return True  # another pod is made
            return self._fail(job, "PodFailurePolicy", message)
        return self._fail(job, "BackoffLimitExceeded", "Job has reached the specified backoff limit")

    def _fail(self, job: Body, reason: str, message: str) -> bool:
        return self._end(job, "FailureTarget", reason, message)

    def _end(self, job: Body, task_type: str, reason: str, message: str) -> bool:
        condition = {
            "type": task_type,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": format_time(self.now),
        }
        job["status"]["conditions"] = [*job["status"].get("conditions", ()), condition]
        self.changed(JOBS, job["metadata"]["name"])
        return True

    def _finish_failed(self, job: Body, target: Body, active: list[Body]) -> bool:
        for pod in active:
            if "deletionTimestamp" not in pod["metadata"]:
                self.delete(PODS, pod["metadata"]["name"])
                return True
        if active:
            return False
        return self._end(job, "Failed", target["reason"], target["message"])

    def pod_garbage_collector(self, pod_name: str) -> bool:
        """Fail a pod whose node is no more, or is out of service: without a word of its kubelet."""
        pod = self.objects[PODS].get(pod_name)
        if pod is None or "nodeName" not in pod["spec"]:
            return False
        if pod["status"].get("phase") in ("Failed", "Succeeded"):
            return False
        node = self.objects[NODES].get(pod["spec"]["nodeName"])
        if node is not None and not node["spec"]["taints"]:
            return False
        pod["status"] |= {
            "phase": "Failed",
            "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}],
        }
        self.changed(PODS, pod_name)
        return True

    def garbage_collector(self, name: str) -> bool:
        """Do the next thing for a Job that is being deleted, or whose task is no more."""
        job = self.objects[JOBS].get(name)
        if job is None:
            return False
        meta = job["metadata"]
        owner = meta["ownerReferences"][0]
        task = self.objects[TASKS].get(owner["name"])
        if "deletionTimestamp" not in meta:
            if task is not None and task["metadata"]["uid"] == owner["uid"]:
                return False
            self.delete(JOBS, name)
            return True
        pods = [p for p in self.objects[PODS].values() if p["metadata"]["jobUid"] == meta["uid"]]
        for pod in pods:
            pod_name = pod["metadata"]["name"]
            over = pod["status"].get("phase") in ("Failed", "Succeeded")
            if "deletionTimestamp" not in pod["metadata"]:
                self.delete(PODS, pod_name)
                return True
            finished = any(c["type"] in ("Failed", "Complete") for c in job["status"].get("conditions", ()))
            if over and (finished or pod["metadata"].get("counted")):
                self.remove(PODS, pod_name)
                return True
        if not pods:
            self.remove(JOBS, name)
            return True
        return False


GRACE = 5
KUBELET = 2


def _merge(target: Body, patch: Body) -> None:
    """Apply a JSON merge patch (RFC 7396)."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = copy.deepcopy(value)
