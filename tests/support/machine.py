"""The machine under a node of a kind cluster: what a test does to it behind the cluster's back."""

import time

from clusters import docker
from clusters.kindcluster import KubeCluster


class Machine:
    """A node's container. Its kubelet may be stopped while its containers live on."""

    def __init__(self, name: str, kube: KubeCluster) -> None:
        self.name = name
        self._kube = kube
        engine = docker.find()
        assert engine is not None, "the engine that runs the cluster"
        self._engine = engine

    def run(self, script: str) -> str:
        """Run a shell script on the machine; return what it says."""
        return self._engine.run("exec", self.name, "sh", "-c", script)

    def stop_kubelet(self) -> None:
        """Stop the kubelet; the containers run on."""
        self.run("systemctl stop kubelet")

    def kill_container(self, pod: str) -> None:
        """Kill the containers of a pod, as a machine that loses its power does."""
        self.run(f"crictl ps -q --label io.kubernetes.pod.name={pod} | xargs -r crictl stop -t 0 >/dev/null")

    def kill_process(self, pod: str) -> None:
        """Send SIGKILL to the process of a pod's container, whatever the kubelet makes of it."""
        self.run(
            f"for c in $(crictl ps -q --label io.kubernetes.pod.name={pod}); do "
            "kill -9 $(crictl inspect --output go-template --template '{{.info.pid}}' $c); done"
        )

    def restore(self, seconds: float = 90) -> None:
        """Bring the kubelet back, and the node as the cluster knows it, without taints of a test."""
        self.run("systemctl start kubelet")
        end = time.monotonic() + seconds
        while True:
            listed = self._kube.kubectl("get", "nodes", "-o", "name").split()
            if f"node/{self.name}" in listed:
                break
            assert time.monotonic() < end, f"node {self.name} has not registered again within {seconds} s"
            self.run("systemctl restart kubelet")  # a kubelet registers its node when it starts
            time.sleep(3)
        self._kube.kubectl("uncordon", self.name)
        self._kube.kubectl("wait", f"node/{self.name}", "--for=condition=Ready", f"--timeout={seconds:.0f}s")
