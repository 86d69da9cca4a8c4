"""One control plane for the run, one operator with its real rights, a fresh namespace for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.controlplane import ControlPlane
from support.cluster import Cluster, Namespace, aloud
from support.operator_process import OperatorProcess, install, kubeconfig_of_operator

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "integration"


@pytest.fixture(scope="session")
def control_plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    BUILD.mkdir(parents=True, exist_ok=True)
    with aloud(request):
        running = ControlPlane.start(BUILD / "control-plane")
    with running:
        install(running)
        yield running


@pytest.fixture(scope="session")
def operator_kubeconfig(control_plane: ControlPlane) -> Path:
    """Who the operator is in a cluster."""
    return kubeconfig_of_operator(control_plane, BUILD / "operator.kubeconfig")


@pytest.fixture(scope="session")
def _operator(operator_kubeconfig: Path) -> Iterator[OperatorProcess]:
    log = BUILD / "operator.log"
    log.unlink(missing_ok=True)
    process = OperatorProcess(operator_kubeconfig, log)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def operator(_operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """The operator, running; a test that ends it leaves a new one behind."""
    yield _operator
    if _operator.probe("/readyz")[0] != 200:
        _operator.kill()
        _operator.start()


@pytest.fixture(scope="session")
def cluster(control_plane: ControlPlane) -> Iterator[Cluster]:
    made = Cluster(control_plane.kubeconfig, "asyncflow-integration")
    yield made
    made.close()


@pytest.fixture
def ns(cluster: Cluster, operator: OperatorProcess) -> Iterator[Namespace]:
    with cluster.namespace() as made:
        yield made
