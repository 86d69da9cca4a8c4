"""Processes that record their own lives: what really ran, and when, whatever any status says.

A task's process appends a line every 100 ms to a file of its own on its node, named by task, attempt and pod.
The last line is the last moment at which the process was alive.
"""

import re
from dataclasses import dataclass
from typing import Any

from clusters import kindcluster
from clusters.kindcluster import KubeCluster
from project.image import OPERATOR
from support.cluster import Body, Namespace
from support.machine import Machine

READER = "records"

PROGRAM = """
import json, os, signal, sys, time
payload = json.loads(os.environ["ASYNCFLOW_PAYLOAD"])
attempt = int(os.environ["ASYNCFLOW_ATTEMPT"])
if payload.get("ignoreTerm"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
end = time.monotonic() + payload.get("seconds", 0)
name = "/records/%s.%d.%s" % (os.environ["ASYNCFLOW_TASK"], attempt, os.uname().nodename)
with open(name, "a", buffering=1) as record:
    while True:
        record.write("%.3f %s\\n" % (time.time(), os.environ["ASYNCFLOW_FENCING_TOKEN"]))
        if time.monotonic() >= end and not payload.get("hang"):
            break
        time.sleep(0.1)
exits = payload.get("exits", [0])
sys.exit(exits[min(attempt, len(exits)) - 1])
"""


@dataclass(frozen=True)
class Life:
    """One process: its attempt, its first and last sign of life (seconds since 1970), its fencing token."""

    task: str
    attempt: int
    first: float
    last: float
    token: int


class Records:
    """The records of one namespace's processes, on the node's own disk."""

    def __init__(self, ns: Namespace, kube: KubeCluster) -> None:
        self._ns = ns
        self._kube = kube
        self._path = f"/var/tmp/asyncflow-records/{ns.name}"
        nodes = kube.kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
        # A machine is asked itself where it can be: its kubelet may be the one that is away.
        self._machines = [Machine(name, kube) for name in nodes] if kube.name in kindcluster.names() else []
        if self._machines:
            return
        assert len(nodes) == 1, "the records of several nodes can only be read on kind"
        reader = {"name": "reader", "image": OPERATOR, "command": ["sleep", "86400"]}
        ns.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": READER},
                "spec": {"terminationGracePeriodSeconds": 0, **self._with_records(reader)},
            }
        )
        ns.wait("Pod", READER, lambda pod: pod["status"].get("phase") == "Running")

    def pod(self, grace: int = 1) -> Body:
        """Return the spec of a pod whose process records its life and then does what the payload says.

        The payload's fields: ``seconds`` to live, ``hang``, ``ignoreTerm``, ``exits`` by attempt.
        """
        container = {"name": "main", "image": OPERATOR, "command": ["python3", "-c", PROGRAM]}
        return {"terminationGracePeriodSeconds": grace, **self._with_records(container)}

    def lives(self) -> list[Life]:
        """Return what the processes have recorded so far, in order of their first sign of life."""
        shell = 'for f in *.*; do [ -e "$f" ] && echo "$f $(head -n1 $f) $(tail -n1 $f)"; done; true'
        lives = []
        for line in self._tell(shell).splitlines():
            name, first, token, last, _ = line.split()
            task, attempt, _ = name.split(".")
            lives.append(Life(task, int(attempt), float(first), float(last), int(token)))
        return sorted(lives, key=lambda life: life.first)

    def _tell(self, shell: str) -> str:
        """Run a shell script where the records are, on every node; return what they say."""
        if self._machines:
            there = f"cd {self._path} 2>/dev/null || exit 0; {shell}"
            return "\n".join(said for machine in self._machines if (said := machine.run(there)))
        shell = f"cd /records && {shell}"
        return self._kube.kubectl("-n", self._ns.name, "exec", READER, "--", "sh", "-c", shell)

    def of(self, task: str) -> list[Life]:
        """Return the lives of one task's processes."""
        return [life for life in self.lives() if life.task == task]

    def close(self) -> None:
        """Remove the records from the node."""
        self._tell("rm -f ./*")

    def _with_records(self, container: dict[str, Any]) -> Body:
        return {
            "securityContext": {"runAsUser": 0},
            "containers": [
                {
                    **container,
                    "imagePullPolicy": "IfNotPresent",
                    "volumeMounts": [{"name": "records", "mountPath": "/records"}],
                }
            ],
            "volumes": [{"name": "records", "hostPath": {"path": self._path, "type": "DirectoryOrCreate"}}],
        }


def named_as_a_test_cluster(context: str) -> bool:
    """Tell whether a context's name says that its cluster is for tests: it has the word "test" in it."""
    return bool(re.search(r"(^|[^a-z])test($|[^a-z])", context))


def overlaps(lives: list[Life], *, any_task: bool = False) -> list[tuple[Life, Life]]:
    """Return the pairs of attempts of one task, or of any, that were alive at the same time."""
    found = []
    for number, one in enumerate(lives):
        for other in lives[number + 1 :]:
            if (any_task or one.task == other.task) and other.first <= one.last and one.first <= other.last:
                found.append((one, other))
    return found
