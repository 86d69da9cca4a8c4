"""Installs asyncflow into a local cluster: image, CRDs and operator."""

import os

from clusters import cache, docker, kindcluster
from clusters.errors import ClusterError
from clusters.kindcluster import KubeCluster
from project import image
from project.image import ROOT

ROLLOUT_SECONDS = 120


def install(cluster: KubeCluster) -> None:
    """Install the operator of this source tree into a cluster and wait until it is ready.

    For a kind cluster of `clusters.kindcluster` the image is built and loaded. The nodes of any other cluster
    need the image asyncflow/operator:dev, or the one that ``ASYNCFLOW_TEST_IMAGE`` names.

    Raises:
        ClusterError: it did not become ready within `ROLLOUT_SECONDS`; the message has its last log lines.
    """
    if cluster.name in kindcluster.names():
        kindcluster.load_image(cluster.name, image.build_operator())
    with cache.step("installing CRDs and operator"):
        cluster.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        cluster.kubectl("apply", "-f", str(ROOT / "deploy" / "operator.yaml"))
        if other := os.environ.get("ASYNCFLOW_TEST_IMAGE"):
            cluster.kubectl(
                "-n", "asyncflow-system", "set", "image", "deployment/asyncflow", f"operator={other}"
            )
        # The tag never changes: only a new pod uses the new image.
        _operator(cluster, "rollout", "restart", "deployment/asyncflow")
        try:
            _operator(cluster, "rollout", "status", "deployment/asyncflow", f"--timeout={ROLLOUT_SECONDS}s")
        except ClusterError as error:
            log = _operator(cluster, "logs", "deployment/asyncflow", "--tail=20")
            raise ClusterError(
                f"the operator did not become ready: {error}\nIts last log lines:\n{log}"
            ) from error


def _operator(cluster: KubeCluster, *arguments: str) -> str:
    return cluster.kubectl("--namespace=asyncflow-system", *arguments)


def remove(name: str) -> None:
    """Remove a kind cluster, and the Docker engine if `clusters.docker` started it and no cluster uses it."""
    kindcluster.down(name)
    if not kindcluster.names():
        for line in docker.down():
            cache.say(f"  not restored: {line}")
