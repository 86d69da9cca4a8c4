"""asyncflow in a local cluster: image, CRDs, operator."""

import os

from clusters import cache, docker, kindcluster
from clusters.errors import ClusterError
from clusters.kindcluster import KubeCluster
from project import image
from project.image import ROOT

ROLLOUT_SECONDS = 120


def install(cluster: KubeCluster) -> None:
    """Put the operator of this source tree into a cluster and wait until it is ready.

    A cluster that was not made here gets the image that ``ASYNCFLOW_TEST_IMAGE`` names, if it names one; else
    it has to have asyncflow/operator:dev on its nodes.

    Raises:
        ClusterError: it did not become ready in time; the message holds its last log lines.
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
        # The tag is always the same: a new image is only taken up by a new pod.
        _operator(cluster, "rollout", "restart", "deployment/asyncflow")
        try:
            _operator(cluster, "rollout", "status", "deployment/asyncflow", f"--timeout={ROLLOUT_SECONDS}s")
        except ClusterError as error:
            said = _operator(cluster, "logs", "deployment/asyncflow", "--tail=20")
            raise ClusterError(
                f"the operator did not become ready: {error}\nIts last log lines:\n{said}"
            ) from error


def _operator(cluster: KubeCluster, *arguments: str) -> str:
    return cluster.kubectl("--namespace=asyncflow-system", *arguments)


def remove(name: str) -> None:
    """Remove a cluster that was made here, and our own Docker engine if no other cluster needs it."""
    kindcluster.down(name)
    if not kindcluster.names():
        for line in docker.down():
            cache.say(f"  still there: {line}")
