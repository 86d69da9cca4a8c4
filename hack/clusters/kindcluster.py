"""A kind cluster with a real kubelet, for end-to-end tests, with a kubeconfig of its own."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from clusters import cache, docker, gobuild, nodeimage, processes
from clusters.engine import POD_NETWORK, SERVICE_NETWORK, Engine
from clusters.errors import ClusterError
from clusters.kubectl import Kubectl
from offline import pod_network

DEFAULT_NAME = "asyncflow-test"
KIND_SECONDS = 600.0
READY_SECONDS = 120.0

KUBELET = {
    # A kubelet of 1.35 or later refuses cgroup v1 unless told; with v2 this says nothing.
    "failCgroupV1": False,
    # How soon the kubelet sees that its node is ready; reports that say nothing new stay as rare as they are.
    "nodeStatusUpdateFrequency": "1s",
    "nodeStatusReportFrequency": "5m",
}

# The first probe comes too early, and the next one by default ten seconds later.
COREDNS = {
    "spec": {
        "replicas": 1,
        "template": {"spec": {"containers": [{"name": "coredns", "readinessProbe": {"periodSeconds": 1}}]}},
    }
}


@dataclass(frozen=True)
class KubeCluster:
    """A running cluster. Its context's name tells that it is for tests."""

    name: str
    kubectl: Kubectl

    @property
    def kubeconfig(self) -> Path:
        return self.kubectl.kubeconfig

    @property
    def context(self) -> str:
        return f"kind-{self.name}"


def up(name: str = DEFAULT_NAME, *, workers: int = 0) -> KubeCluster:
    """The cluster `name`, with `workers` nodes beside the control plane's: the running one if well, else a
    new.

    Returns when all nodes are Ready, names are resolved in pods, and pods can be made in the namespace
    default. Raises ClusterError, with what kind or the cluster said.
    """
    engine = docker.up()
    with cache.locked(f"kind-{name}"):
        cluster = _cluster(name)
        if name in _existing(engine):
            if _is_well(cluster, workers):
                return cluster
            cache.say(f"• the cluster {name} is not well, or has another number of workers: making it anew")
        _delete(engine, name)
        image = nodeimage.ensure(engine)
        with cache.step(f"creating the kind cluster {name}"):
            _create(engine, cluster, workers, image)
        cluster.kubectl(
            "--namespace=kube-system", "patch", "deployment", "coredns", f"--patch={json.dumps(COREDNS)}"
        )
        if not image.has_network:
            with cache.step("connecting the nodes' pods"):
                pod_network.connect(engine, cluster.kubectl, workers + 1)
        with cache.step("waiting for the cluster's DNS and service accounts"):
            _wait_until_ready(cluster)
        return cluster


def down(name: str = DEFAULT_NAME) -> None:
    """Delete the cluster `name`; nothing there is fine."""
    engine = docker.find()
    if engine is not None:
        with cache.locked(f"kind-{name}"):
            _delete(engine, name)


def load_image(name: str, image: str) -> None:
    """Make `image`, which the Docker engine has, known to all nodes of the cluster."""
    _kind(docker.up(), "load", "docker-image", image, f"--name={name}")


def names() -> list[str]:
    """The clusters that were made here and are still there."""
    engine = docker.find()
    made = {path.name for path in _directory().glob("*")}
    return sorted(made.intersection(_existing(engine))) if engine else []


def forget_gone() -> None:
    """Remove the files of clusters that are no longer there."""
    there = names()
    for path in _directory().glob("*"):
        if path.name not in there:
            cache.remove(path)


def _directory() -> Path:
    return cache.root() / "kind"


def _cluster(name: str) -> KubeCluster:
    return KubeCluster(name, Kubectl(gobuild.binary("kubectl"), _directory() / name / "kubeconfig"))


def _existing(engine: Engine) -> list[str]:
    """The names of kind's clusters, also of half-made ones, by the label that kind gives to containers."""
    label = "io.x-k8s.kind.cluster"
    listing = ["container", "ls", "--all", f"--filter=label={label}", f'--format={{{{.Label "{label}"}}}}']
    return sorted(set(engine.run(*listing).split()))


def _is_well(cluster: KubeCluster, workers: int) -> bool:
    """Whether the API server answers and exactly the nodes asked for are Ready."""
    try:
        nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json", "--request-timeout=5s"))["items"]
        cluster.kubectl("get", "serviceaccount", "default", "--namespace=default", "--request-timeout=5s")
    except ClusterError:
        return False
    return len(nodes) == workers + 1 and all(
        condition["status"] == "True"
        for node in nodes
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    )


def _create(engine: Engine, cluster: KubeCluster, workers: int, image: nodeimage.NodeImage) -> None:
    cluster.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    config = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {
            "disableDefaultCNI": not image.has_network,
            "podSubnet": POD_NETWORK,
            "serviceSubnet": SERVICE_NETWORK,
        },
        "nodes": [{"role": "control-plane"}, *[{"role": "worker"}] * workers],
        "kubeadmConfigPatches": [yaml.safe_dump({"kind": "KubeletConfiguration"} | KUBELET)],
    }
    path = cluster.kubeconfig.with_name("kind.yaml")
    path.write_text(yaml.safe_dump(config))
    _kind(
        engine,
        "create",
        "cluster",
        f"--name={cluster.name}",
        f"--image={image.tag}",
        f"--config={path}",
        f"--kubeconfig={cluster.kubeconfig}",
    )


def _delete(engine: Engine, name: str) -> None:
    if name in _existing(engine):
        with cache.step(f"deleting the kind cluster {name}"):
            _kind(engine, "delete", "cluster", f"--name={name}", f"--kubeconfig={_cluster(name).kubeconfig}")
    cache.remove(_directory() / name)


def _wait_until_ready(cluster: KubeCluster) -> None:
    """kind itself waits at most for the nodes."""
    timeout = f"--timeout={READY_SECONDS:.0f}s"
    try:
        cluster.kubectl("wait", "--for=condition=Ready", "nodes", "--all", timeout)
        for workload in ("daemonset/kube-proxy", "deployment/coredns"):
            cluster.kubectl("--namespace=kube-system", "rollout", "status", workload, timeout)
        cluster.kubectl("--namespace=default", "wait", "--for=create", "serviceaccount/default", timeout)
    except ClusterError as error:
        with contextlib.suppress(ClusterError):
            pods = cluster.kubectl("get", "pods", "--all-namespaces", "--output=wide")
            events = cluster.kubectl("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp")
            raise ClusterError("\n".join([str(error), pods, *events.splitlines()[-20:]])) from error
        raise


def _kind(engine: Engine, *arguments: str) -> None:
    environment = engine.environment
    environment.pop("KUBECONFIG", None)
    command: list[str | Path] = [gobuild.binary("kind"), *arguments]
    processes.run(command, environment=environment, dies_with_parent=True, limit_seconds=KIND_SECONDS)
