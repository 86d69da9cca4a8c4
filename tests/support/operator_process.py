"""The operator as a process of its own, on the host."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import requests
import yaml

from clusters.controlplane import ControlPlane

ROOT = Path(__file__).parents[2]
LEADING = {
    "ASYNCFLOW_LEASE_NAMESPACE": "asyncflow-system",
    "ASYNCFLOW_LEASE_SECONDS": "4",
    "ASYNCFLOW_RENEW_SECONDS": "1",
    "ASYNCFLOW_REQUEST_SECONDS": "2",
    "ASYNCFLOW_STUCK_SECONDS": "2",
    "ASYNCFLOW_SPLIT_SECONDS": "1",
    "ASYNCFLOW_ROLL_SECONDS": "1",
}
"""A leadership that changes hands within seconds, and governors that look often."""


def install(control_plane: ControlPlane, tree: Path = ROOT) -> None:
    """Put into a control plane what the operator of a tree needs: the CRDs, and its rights."""
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(tree / "crds"))
    for document in yaml.safe_load_all((tree / "deploy" / "operator.yaml").read_text()):
        if document["kind"] != "Deployment":
            control_plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(document))
    control_plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
    control_plane.kubectl("api-resources")  # kubectl remembers what there was before


def kubeconfig_of_operator(control_plane: ControlPlane, path: Path) -> Path:
    """Write who the operator is in a cluster: its ServiceAccount, with the rights of deploy/operator.yaml."""
    token = control_plane.kubectl("-n", "asyncflow-system", "create", "token", "asyncflow").strip()
    return control_plane.kubeconfig_for(path, token)


class OperatorProcess:
    """The operator as a process, which a test may kill and start again."""

    def __init__(
        self,
        kubeconfig: Path,
        log: Path,
        *,
        leading: Mapping[str, str] = LEADING,
        tree: Path = ROOT,
        **environment: str,
    ) -> None:
        self.log = log
        self._tree = tree
        self._kubeconfig = kubeconfig
        self._environment = {**leading, "ASYNCFLOW_IDENTITY": f"test-{uuid4().hex[:8]}", **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def identity(self) -> str:
        """Return who it is in the leader's Lease."""
        return self._environment["ASYNCFLOW_IDENTITY"]

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it says that it is ready."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(self._tree / "operator"),
            "ASYNCFLOW_PORT": str(self.port),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "asyncflow", "run", "--kubeconfig", str(self._kubeconfig)],
                env={**environment, **self._environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = 30) -> None:
        """Wait until ``/readyz`` says ok."""
        end = time.monotonic() + seconds
        while self.probe("/readyz")[0] != 200:
            assert self._process is not None
            assert self._process.poll() is None, f"the operator ended: see {self.log}"
            assert time.monotonic() < end, f"the operator is not ready after {seconds} s: see {self.log}"
            time.sleep(0.05)

    def probe(self, path: str) -> tuple[int, str]:
        """Ask a probe; status 0 if nobody answers."""
        try:
            answer = requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)
        except requests.ConnectionError:
            return 0, ""
        return answer.status_code, answer.text

    def kill(self) -> None:
        """End it without a word, as a lost node would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it do nothing until `resume`, without its knowledge."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, if it is there and was paused."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(30)
        self._process = None
        return code


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
