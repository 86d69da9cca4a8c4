"""The cluster of the crash model.

Each actor does one small thing at a time, whenever it is told to: nobody is quick, nobody is reliable. What
an operator is told of the cluster is what the API server says; what truly runs is in ``processes``.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncflow.api import names
from asyncflow.api.meta import format_time
from asyncflow.kube.client import JOBS, NODES, PODS, TASKS, Body, Resource
from support.builders import NAMESPACE, T0
from support.fake_api import FakeApiServer
from support.object_store import ENDED, FOREGROUND, RESOURCES

GRACE = 5
KUBELET = 2
TRACKING = "batch.kubernetes.io/job-tracking"
"""The finalizer of a pod that its Job has still to count."""


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
class Node:
    """A machine: its kubelet may be dead while its processes live on."""

    name: str
    kubelet: bool = True
    boot: int = 1


class World:
    """The API server, machines and processes."""

    def __init__(self) -> None:
        self.now = T0
        self.api = FakeApiServer(lambda: self.now)
        self.objects = {
            resource: self.api.objects(resource, None if resource is NODES else NAMESPACE)
            for resource in RESOURCES
        }
        """By resource and name, as they are now. They are changed through the API server only."""
        self.nodes = {name: Node(name) for name in ("n1", "n2")}
        self.processes: dict[str, Process] = {}
        self.preparing: dict[str, Body] = {}
        """By name: pods for which a kubelet pulls the image. It starts them afterwards, whatever is asked."""
        self.executed: dict[tuple[str, int], str] = {}
        """By task and attempt: the pod that ran it. No attempt runs twice."""
        self.tokens: dict[str, int] = {}
        """The highest token of any process, by key."""
        self.keys: dict[str, str] = {}
        """The lockKeys of tasks, also of such that were deleted."""
        for node in self.nodes.values():
            self.put_node(node)

    # What everybody may ask of the API server

    def create(self, resource: Resource, body: Body) -> Body:
        """Create an object."""
        return self.api.create(resource, NAMESPACE, body)

    def patch(self, resource: Resource, name: str, **fields: Any) -> None:
        """Change fields of an object; its status by itself, through the subresource."""
        namespace = None if resource is NODES else NAMESPACE
        if (status := fields.pop("status", None)) is not None:
            self.api.patch(resource, namespace, name, {"status": status}, subresource="status")
        if fields:
            self.api.patch(resource, namespace, name, fields)

    def delete(self, resource: Resource, name: str, **options: Any) -> None:
        """Delete an object: a Job or a pod may stay until its work is over."""
        self.api.delete(resource, None if resource is NODES else NAMESPACE, name, **options)

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
        if pod is None or pod["status"]["phase"] in ENDED:
            return
        ended = {"exitCode": code, "finishedAt": format_time(self.now)}
        status = {
            "phase": "Failed" if code or reason else "Succeeded",
            "containerStatuses": [{"state": {"terminated": ended}}],
        }
        self.patch(PODS, name, status={**status, **({"reason": reason} if reason else {})})

    # The kubelets

    def kubelet(
        self, pod_name: str, exit_code: int | None, *, slow: bool = False, rejects: bool = False
    ) -> bool:
        """Let a pod's kubelet do the next thing for it; tell whether there was one.

        Args:
            pod_name: the pod.
            exit_code: what its process ends with now; None lets it run.
            slow: it pulls the image of a new pod first, which takes some time.
            rejects: it rejects a new pod.
        """
        pod = self.objects[PODS].get(pod_name)
        if pod is None or "nodeName" not in pod["spec"]:
            return False
        if not self.nodes[pod["spec"]["nodeName"]].kubelet:
            return False
        deleting = "deletionTimestamp" in pod["metadata"]
        if pod["status"]["phase"] in ENDED:
            return deleting and pod_name not in self.processes and self._end_deletion(pod)
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
        elif pod_name in self.preparing:
            if slow:
                return False
            self._start(pod_name)
        elif "startTime" in pod["status"]:
            self._terminate(pod_name, 255)  # its machine was booted anew: what ran there is gone
        elif deleting:
            self._terminate(pod_name, 143)
        elif rejects:
            self._reject(pod_name)
        elif slow:
            self.patch(PODS, pod_name, status={"startTime": format_time(self.now)})
            self.preparing[pod_name] = self.objects[PODS][pod_name]
        else:
            self._start(pod_name)
        return True

    def _start(self, pod_name: str) -> None:
        """Start the container of a pod, and report it if the pod is still there."""
        prepared = self.preparing.pop(pod_name, None)
        pod = self.objects[PODS].get(pod_name) or prepared
        assert pod is not None
        self.start_process(pod)
        if pod_name in self.objects[PODS]:
            container = {"containerID": "containerd://1", "state": {"running": {}}}
            started = pod["status"].get("startTime") or format_time(self.now)
            status = {"startTime": started, "phase": "Running", "containerStatuses": [container]}
            self.patch(PODS, pod_name, status=status)

    def _reject(self, pod_name: str) -> None:
        """Fail a pod before any container of it was created: OutOfcpu, NodeAffinity, …"""
        now = format_time(self.now)
        write = {"manager": "kubelet", "subresource": "status", "time": now}
        fields: Body = {"fieldsV1": {"f:status": {"f:phase": {}}}}
        self.patch(PODS, pod_name, metadata={"managedFields": [{**write, **fields}]})
        self.patch(PODS, pod_name, status={"startTime": now, "phase": "Failed", "reason": "OutOfcpu"})

    def late_start(self, pod_name: str) -> bool:
        """Let a kubelet start the container of a pod that is gone or has ended meanwhile."""
        prepared = self.preparing.get(pod_name)
        if prepared is None or not self.nodes[prepared["spec"]["nodeName"]].kubelet:
            return False
        pod = self.objects[PODS].get(pod_name)
        if pod is not None and pod["status"]["phase"] not in ENDED:
            return False
        del self.preparing[pod_name]
        self.start_process(prepared)
        return True

    def kubelet_is_gone(self, name: str) -> None:
        """End what a kubelet was at; what it has started lives on."""
        self.nodes[name].kubelet = False
        self.preparing = {p: body for p, body in self.preparing.items() if body["spec"]["nodeName"] != name}

    def _end_deletion(self, pod: Body) -> bool:
        """Delete a pod that nothing runs of any more; it stays as long as its Job has not counted it."""
        meta = pod["metadata"]
        if meta.get("deletionGracePeriodSeconds") == 0:
            return False
        self.delete(PODS, meta["name"], uid=meta["uid"], grace_seconds=0)
        return True

    def kubelet_clean_up(self, name: str) -> bool:
        """A kubelet kills what no pod of the API server stands for."""
        node, killed = self.nodes[name], False
        if not node.kubelet:
            return False
        for pod_name, process in list(self.processes.items()):
            pod = self.objects[PODS].get(pod_name)
            if process.node == name and (pod is None or pod["status"]["phase"] in ENDED):
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
        self.kubelet_is_gone(name)
        for pod_name, process in list(self.processes.items()):
            if process.node == name:
                del self.processes[pod_name]

    def put_node(self, node: Node, *, out_of_service: bool = False) -> None:
        taints = [{"key": names.OUT_OF_SERVICE_TAINT}] if out_of_service else []
        status = {
            "conditions": [{"type": "Ready", "status": str(node.kubelet)}],
            "nodeInfo": {"systemUUID": f"machine-{node.name}", "bootID": f"boot-{node.boot}"},
        }
        if node.name in self.objects[NODES]:
            self.patch(NODES, node.name, spec={"taints": taints}, status=status)
        else:
            body = {"metadata": {"name": node.name}, "spec": {"taints": taints}, "status": status}
            self.api.create(NODES, None, body)

    # Kubernetes' controllers

    def schedule(self, pod_name: str, node: str) -> bool:
        """Bind a pod to a node."""
        pod = self.objects[PODS].get(pod_name)
        if pod is None or "nodeName" in pod["spec"] or "deletionTimestamp" in pod["metadata"]:
            return False
        if node not in self.objects[NODES] or pod["status"]["phase"] == "Failed":
            return False
        if self.objects[NODES][node]["spec"]["taints"]:
            return False
        self.patch(PODS, pod_name, spec={"nodeName": node})
        return True

    def job_controller(self, name: str) -> bool:
        """Do the next thing for a Job; tell whether there was one."""
        job = self.objects[JOBS].get(name)
        if job is None:
            return False
        status, spec = job["status"], job["spec"]
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        pods = self._pods_of(job)
        active = [p for p in pods if p["status"]["phase"] not in ENDED]
        for pod in active:
            if "deletionTimestamp" in pod["metadata"] and "nodeName" not in pod["spec"]:
                self.patch(PODS, pod["metadata"]["name"], status={"phase": "Failed"})
                return True
        uncounted = [p for p in pods if p["status"]["phase"] in ENDED and _tracked(p)]
        if "Complete" in conditions or "Failed" in conditions:
            return bool(uncounted) and self._let_go(uncounted[0])
        if "FailureTarget" in conditions:
            return self._finish_failed(job, conditions["FailureTarget"], active, uncounted)
        if uncounted:
            return self._count(job, uncounted[0])
        if "startTime" not in status:
            self.patch(JOBS, name, status={"startTime": format_time(self.now)})
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

    def job_controller_without_job(self, pod_name: str) -> bool:
        """Let go of a pod whose Job is gone; tell whether that was due."""
        pod = self.objects[PODS].get(pod_name)
        return pod is not None and _tracked(pod) and self._job_of(pod) is None and self._let_go(pod)

    def _pods_of(self, job: Body) -> list[Body]:
        return [pod for pod in self.objects[PODS].values() if owner_uid(pod) == job["metadata"]["uid"]]

    def _job_of(self, pod: Body) -> Body | None:
        job = self.objects[JOBS].get(pod["metadata"]["ownerReferences"][0]["name"])
        return job if job is not None and job["metadata"]["uid"] == owner_uid(pod) else None

    def _let_go(self, pod: Body) -> bool:
        """Take the finalizer off a pod that has been counted: if it is being deleted, it may go."""
        self.patch(PODS, pod["metadata"]["name"], metadata={"finalizers": None})
        return True

    def _make_pod(self, job: Body) -> None:
        meta, template = job["metadata"], job["spec"]["template"]
        labels = {
            "batch.kubernetes.io/job-name": meta["name"],
            "batch.kubernetes.io/controller-uid": meta["uid"],
        }
        owner = {"kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        pod_meta = {
            **template["metadata"],
            "name": f"{meta['name']}-{self.api.version}",
            "labels": {**template["metadata"]["labels"], **labels},
            "finalizers": [TRACKING],
            "ownerReferences": [{**owner, "blockOwnerDeletion": True}],
        }
        self.create(PODS, {"metadata": pod_meta, "spec": template["spec"]})
        self.patch(JOBS, meta["name"], status={"active": 1})

    def _count(self, job: Body, pod: Body) -> bool:
        """Count a pod that has ended, by the Job's own policy."""
        self._let_go(pod)
        job_name, pod_name = job["metadata"]["name"], pod["metadata"]["name"]
        if pod["status"]["phase"] == "Succeeded":
            status = {"active": None, "succeeded": 1, "completionTime": format_time(self.now)}
            return self.end_job(job_name, "Complete", "CompletionsReached", "", **status)
        failed = {"active": None, "failed": job["status"].get("failed", 0) + 1}
        states = [c["state"] for c in pod["status"].get("containerStatuses", ())]
        codes = [state["terminated"]["exitCode"] for state in states if "terminated" in state]
        disrupted = any(c["type"] == "DisruptionTarget" for c in pod["status"].get("conditions", ()))
        for number, rule in enumerate(job["spec"]["podFailurePolicy"]["rules"]):
            where = f"{rule['action']} rule at index {number}"
            if "onPodConditions" in rule and disrupted:
                message = f"Pod shop/{pod_name} has condition DisruptionTarget matching {where}"
            elif "onExitCodes" in rule and any(codes):
                code = next(code for code in codes if code)
                message = (
                    f"Container main for pod shop/{pod_name} failed with exit code {code} matching {where}"
                )
            else:
                continue
            if rule["action"] == "Ignore":
                self.patch(JOBS, job_name, status=failed)
                return True  # another pod is made
            return self._fail(job, "PodFailurePolicy", message, **failed)
        return self._fail(
            job, "BackoffLimitExceeded", "Job has reached the specified backoff limit", **failed
        )

    def _fail(self, job: Body, reason: str, message: str, **status: Any) -> bool:
        return self.end_job(job["metadata"]["name"], "FailureTarget", reason, message, **status)

    def end_job(self, name: str, condition_type: str, reason: str, message: str, **status: Any) -> bool:
        """Give a Job a condition, and its status other fields with it."""
        condition = {
            "type": condition_type,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": format_time(self.now),
        }
        before = self.objects[JOBS][name]["status"].get("conditions", [])
        self.patch(JOBS, name, status={**status, "conditions": [*before, condition]})
        return True

    def _finish_failed(self, job: Body, target: Body, active: list[Body], uncounted: list[Body]) -> bool:
        for pod in active:
            if "deletionTimestamp" not in pod["metadata"]:
                self.delete(PODS, pod["metadata"]["name"])
                return True
        if active:
            return False
        if uncounted:
            return self._let_go(uncounted[0])
        return self.end_job(job["metadata"]["name"], "Failed", target["reason"], target["message"])

    def pod_garbage_collector(self, pod_name: str) -> bool:
        """Fail, then delete a pod whose node is no more, or is out of service; its kubelet is not asked."""
        pod = self.objects[PODS].get(pod_name)
        if pod is None or "nodeName" not in pod["spec"]:
            return False
        node = self.objects[NODES].get(pod["spec"]["nodeName"])
        if node is not None and not node["spec"]["taints"]:
            return False
        if pod["status"]["phase"] in ENDED:
            return self._end_deletion(pod)
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
        self.patch(PODS, pod_name, status={"phase": "Failed", "conditions": [condition]})
        return True

    def garbage_collector(self, name: str) -> bool:
        """Do the next thing for a Job that is being deleted, or whose task is no more."""
        job = self.objects[JOBS].get(name)
        if job is None:
            return False
        meta = job["metadata"]
        if "deletionTimestamp" not in meta:
            task = self.objects[TASKS].get(meta["ownerReferences"][0]["name"])
            if task is not None and task["metadata"]["uid"] == owner_uid(job):
                return False
            foreground = FOREGROUND in meta.get("finalizers", ())
            self.delete(JOBS, name, propagation="Foreground" if foreground else "Background")
            return True
        pods = self._pods_of(job)
        for pod in pods:
            if "deletionTimestamp" not in pod["metadata"]:
                self.delete(PODS, pod["metadata"]["name"])
                return True
        if not pods:
            self.patch(JOBS, name, metadata={"finalizers": None})
        return not pods

    def garbage_collector_without_job(self, pod_name: str) -> bool:
        """Delete a pod whose Job is gone; tell whether that was due."""
        pod = self.objects[PODS].get(pod_name)
        if pod is None or "deletionTimestamp" in pod["metadata"] or self._job_of(pod) is not None:
            return False
        self.delete(PODS, pod_name)
        return True


def owner_uid(body: Body) -> str:
    """Return the uid of an object's owner."""
    uid: str = body["metadata"]["ownerReferences"][0]["uid"]
    return uid


def _tracked(pod: Body) -> bool:
    return TRACKING in pod["metadata"].get("finalizers", ())
