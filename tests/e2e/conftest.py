"""One kind cluster for the run, with the operator installed as users install it; a namespace for each test.

``ASYNCFLOW_TEST_CONTEXT`` names a context of a kubeconfig to use a cluster that is there already. It has to
be named as a test cluster: what runs here deletes namespaces and operators.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusters import gobuild, kindcluster
from clusters.kindcluster import KubeCluster
from clusters.kubectl import Kubectl
from project.install import install, remove
from support.cluster import Cluster, Namespace, aloud
from support.machine import Machine
from support.recorder import Records, named_as_a_test_cluster

NAME = "asyncflow-test"
BUILD = Path(__file__).parents[2] / "build" / "e2e"
CONTEXT = os.environ.get("ASYNCFLOW_TEST_CONTEXT")


@pytest.fixture(scope="session")
def kube(request: pytest.FixtureRequest) -> Iterator[KubeCluster]:
    try:
        with aloud(request):
            cluster = _existing(CONTEXT) if CONTEXT else _two_nodes()
            install(cluster)
        request.session.collect_logs = _collector(cluster)  # type: ignore[attr-defined]
        yield cluster
    finally:
        if not CONTEXT and not os.environ.get("ASYNCFLOW_KEEP_CLUSTER"):
            remove(NAME)


def _two_nodes() -> KubeCluster:
    """Return a cluster whose control plane's node takes pods, too, so that the other one may be lost."""
    made = kindcluster.up(NAME, workers=1)
    taint = "node-role.kubernetes.io/control-plane"
    tainted = f"{{.items[?(@.spec.taints[*].key=='{taint}')].metadata.name}}"
    for name in made.kubectl("get", "nodes", "-o", f"jsonpath={tainted}").split():
        made.kubectl("taint", "node", name, f"{taint}-")
    return made


def _existing(context: str) -> KubeCluster:
    """Return a cluster of the user's, by a kubeconfig that knows no other."""
    if not named_as_a_test_cluster(context):
        pytest.exit(
            f"ASYNCFLOW_TEST_CONTEXT={context} is not named as a test cluster: its name needs the word test, "
            "such as kind-my-test",
            returncode=3,
        )
    theirs = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    kubectl = gobuild.binary("kubectl")
    ours = BUILD / "kubeconfig"
    ours.parent.mkdir(parents=True, exist_ok=True)
    view = ["config", "view", "--minify", "--flatten", f"--context={context}"]
    ours.write_text(Kubectl(kubectl, theirs)(*view))
    ours.chmod(0o600)
    return KubeCluster(context.removeprefix("kind-"), Kubectl(kubectl, ours))


@pytest.fixture
def worker(kube: KubeCluster) -> Iterator[Machine]:
    """The node beside the control plane's, for a test to do to it what it likes."""
    if CONTEXT:
        pytest.skip("needs a worker node of a kind cluster that is made for the run")
    (name,) = kube.kubectl(
        "get",
        "nodes",
        "-l",
        "!node-role.kubernetes.io/control-plane",
        "-o",
        "jsonpath={.items[*].metadata.name}",
    ).split()
    made = Machine(name, kube)
    yield made
    made.restore()


@pytest.fixture(scope="session")
def cluster(kube: KubeCluster) -> Iterator[Cluster]:
    made = Cluster(kube.kubeconfig, CONTEXT or kube.context)
    yield made
    made.close()


@pytest.fixture
def ns(cluster: Cluster) -> Iterator[Namespace]:
    with cluster.namespace() as made:
        yield made


@pytest.fixture
def records(ns: Namespace, kube: KubeCluster) -> Iterator[Records]:
    made = Records(ns, kube)
    yield made
    made.close()


def _collector(kube: KubeCluster) -> Callable[[pytest.Item], Path]:
    """Return what keeps the cluster's state when a test has failed."""

    def collect(item: pytest.Item) -> Path:
        directory = BUILD / re.sub(r"[^\w.-]+", "-", item.name)
        directory.mkdir(parents=True, exist_ok=True)
        for name, arguments in {
            "operator.log": ["-n", "asyncflow-system", "logs", "deployment/asyncflow", "--tail=2000"],
            "operator-before.log": ["-n", "asyncflow-system", "logs", "deployment/asyncflow", "--previous"],
            "objects.yaml": ["get", "at,tt,jobs,pods", "-A", "-o", "yaml"],
            "events.txt": ["get", "events", "-A", "--sort-by=.lastTimestamp"],
        }.items():
            try:
                (directory / name).write_text(kube.kubectl(*arguments))
            except Exception as error:
                (directory / name).write_text(f"could not be read: {error}\n")
        return directory

    return collect
