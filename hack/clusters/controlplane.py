"""A real control plane for integration tests, with kwok in place of the kubelets.

etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok run as plain processes on loopback,
each a child of the test session. kwok plays the kubelet, by the stages in ``kwok-stages.yaml``. RBAC is on,
and so are all default admission plugins but one: ServiceAccount, without which a pod can be made in a
namespace the moment that namespace exists. Service-account tokens work (``kubectl create token``).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import secrets
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clusters import cache, gobuild, processes
from clusters.errors import ClusterError
from clusters.kubectl import Kubectl
from clusters.processes import Process

CONTEXT = "asyncflow-integration"
READY_SECONDS = 60.0
STOP_GRACE_SECONDS = 5.0

# In the order in which they are started.
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok")
STAGES = Path(__file__).with_name("kwok-stages.yaml")

# Below the range that the kernel takes for outgoing connections, so that none can sit on a chosen port.
PORTS = range(20_000, 30_000)

# What a component may hear of the environment: nothing of a proxy, since everything is on loopback.
_ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "TZ") if name in os.environ}


@dataclass(frozen=True)
class Settings:
    """How a control plane is set up; see `ControlPlane.start`."""

    nodes: int = 1
    kube_api_qps: int | None = 5000
    concurrent_job_syncs: int | None = None


@dataclass
class Record:
    """What is on disk of a control plane, so that a later run can end what a killed one left.

    `owner` is the interpreter whose end is its end; None for one that was started by hand and stays.
    """

    path: Path
    run_dir: Path
    owner: Process | None
    processes: dict[str, Process] = field(default_factory=dict)

    def save(self) -> None:
        content = {
            "run_dir": str(self.run_dir),
            "owner": asdict(self.owner) if self.owner else None,
            "processes": [asdict(process) for process in self.processes.values()],
        }
        cache.write(self.path, json.dumps(content, indent=1))

    @classmethod
    def load(cls, path: Path) -> Record | None:
        """The record at `path`; None where there is none, or where it is not one."""
        try:
            content = json.loads(path.read_text())
            found = [Process(**entry) for entry in content["processes"]]
            owner = Process(**content["owner"]) if content["owner"] else None
            return cls(path, Path(content["run_dir"]), owner, {p.name: p for p in found})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def erase(self) -> None:
        """Kill what still runs of it, remove its data, and then the record."""
        processes.stop(list(self.processes.values()), grace_seconds=0.0)
        cache.remove(self.run_dir / "etcd")
        self.path.unlink(missing_ok=True)


class ControlPlane:
    """A running control plane; made by `start`, ended by `close` or by leaving the ``with`` block."""

    def __init__(
        self, run_dir: Path, settings: Settings, record: Record, programs: Mapping[str, Path]
    ) -> None:
        self.run_dir = run_dir
        self.logs = run_dir / "logs"
        self.kubeconfig = run_dir / "kubeconfig"
        self.kubectl = Kubectl(programs["kubectl"], self.kubeconfig, _ENVIRONMENT)
        self.ca_file = run_dir / "certificates" / "apiserver.crt"
        self.token = ""
        self.url = ""
        self._settings = settings
        self._record = record
        self._programs = programs
        self._commands: dict[str, list[str | Path]] = {}
        self._health: dict[str, str] = {}

    @classmethod
    def start(
        cls,
        run_dir: Path,
        *,
        nodes: int = 1,
        kube_api_qps: int | None = 5000,
        concurrent_job_syncs: int | None = None,
        detached: bool = False,
    ) -> Self:
        """Start a control plane with its files in `run_dir`, and return when it is ready for pods.

        `kube_api_qps` is the controller-manager's client limit, requests a second; None leaves its own
        default (20). `concurrent_job_syncs` None leaves its own default (5). All processes end with this
        interpreter, however that ends, unless `detached`. What a killed run left is cleaned up first. Raises
        ClusterError, with the end of the log, when a component does not become ready within a minute.
        """
        programs = gobuild.binaries(*COMPONENTS, "kubectl", "kubeadm")
        clean_up_after_killed_runs()
        run_dir = run_dir.resolve()
        settings = Settings(nodes, kube_api_qps, concurrent_job_syncs)
        owner = None if detached else Process.current()
        if (old := Record.load(_record_path(run_dir))) is not None:
            if old.owner is not None and old.owner.alive and old.owner != owner:
                raise ClusterError(f"{run_dir} is in use by the session with pid {old.owner.pid}")
            old.erase()
        plane = cls(run_dir, settings, Record(_record_path(run_dir), run_dir, owner), programs)
        try:
            plane._start()
        except BaseException:
            plane.close()
            raise
        return plane

    @classmethod
    def attach(cls, run_dir: Path) -> Self | None:
        """The control plane that `start` with `detached` left in `run_dir`; None unless all of it runs."""
        record = Record.load(_record_path(run_dir.resolve()))
        if record is None or set(record.processes) != set(COMPONENTS):
            return None
        if not all(process.alive for process in record.processes.values()):
            return None
        plane = cls(record.run_dir, Settings(), record, gobuild.binaries("kubectl"))
        config = json.loads(plane.kubeconfig.read_text())
        plane.url = config["clusters"][0]["cluster"]["server"]
        plane.token = config["users"][0]["user"]["token"]
        return plane

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything and remove the data; the logs stay. May be called again."""
        self._record.erase()

    @property
    def pids(self) -> dict[str, int]:
        """The pids of the components that run, by name."""
        return {name: process.pid for name, process in self._record.processes.items() if process.alive}

    def stop(self, component: str, *, kill: bool = False) -> None:
        """Stop one component and wait until it has ended; `kill` gives it no chance to say good-bye.

        etcd and the API server take the whole grace of five seconds while they have clients.
        """
        process = self._record.processes.get(component)
        if process is None:
            raise ClusterError(f"{component!r} does not run: {', '.join(self._record.processes)} do")
        processes.stop([process], grace_seconds=0.0 if kill else STOP_GRACE_SECONDS)
        del self._record.processes[component]
        self._record.save()

    def start_component(self, component: str, *, wait: bool = True) -> None:
        """Start one component that was stopped, on the same port and data, and wait until it is healthy.

        After a restart of the API server the controllers are back only when their watches' back-off has
        passed, which takes up to half a minute.
        """
        if component not in self._commands:
            raise ClusterError(f"{component!r} cannot be started here: there are {', '.join(self._commands)}")
        if component in self.pids:
            raise ClusterError(f"{component} runs already, as pid {self.pids[component]}")
        self._record.processes[component] = processes.start(
            self._commands[component],
            log=self.logs / f"{component}.log",
            dies_with_parent=self._record.owner is not None,
            environment=_ENVIRONMENT,
            name=component,
        )
        self._record.save()
        if wait and component in self._health:
            self._until_healthy(component)

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One request to the API server as administrator; the decoded answer, or None when it is a 404."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with _opener(ssl.create_default_context(cafile=self.ca_file)).open(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")
            if error.code == 404:
                return None
            raise ClusterError(f"{method} {path} failed: {said}") from error

    def kubeconfig_for(self, path: Path, token: str, *, namespace: str = "default") -> Path:
        """Write a kubeconfig for this API server with another token, such as a service account's."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "clusters": [{"name": CONTEXT, "cluster": cluster}],
            "users": [{"name": CONTEXT, "user": {"token": token}}],
            "contexts": [
                {"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": namespace}}
            ],
        }
        path.write_text(json.dumps(content, indent=1))
        path.chmod(0o600)
        return path

    def _start(self) -> None:
        for directory in (self.run_dir / "etcd", self.logs, self.ca_file.parent):
            cache.remove(directory)
            directory.mkdir(parents=True)
        self._configure()
        self._record.save()
        for component in COMPONENTS[:2]:
            self.start_component(component)
        for component in COMPONENTS[2:]:
            self.start_component(component, wait=False)
        for number in range(self._settings.nodes):
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"kwok-{number}"}}
            self.request("POST", "/api/v1/nodes", node)
        for component in COMPONENTS[2:4]:
            self._until_healthy(component)
        self._until("all nodes are ready and without taints", self._nodes_are_ready, "kwok")
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        there = "the default service account is there"
        self._until(there, lambda: self.request("GET", account) is not None, "kube-controller-manager")

    def _nodes_are_ready(self) -> bool:
        nodes = self.request("GET", "/api/v1/nodes")["items"]
        return len(nodes) == self._settings.nodes and all(
            not node["spec"].get("taints")
            and any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in node.get("status", {}).get("conditions", [])
            )
            for node in nodes
        )

    def _until_healthy(self, component: str) -> None:
        self._until(f"{component} is healthy", lambda: _answers(self._health[component]), component)

    def _until(self, what: str, condition: Callable[[], bool], component: str) -> None:
        """Wait until `what` holds; ClusterError when a component has ended, or after READY_SECONDS."""
        limit = time.monotonic() + READY_SECONDS
        while True:
            try:
                if condition():
                    return
                trouble = "not yet"
            except (OSError, ClusterError, http.client.HTTPException) as error:
                trouble = str(error)
            ended = [name for name, process in self._record.processes.items() if not process.alive]
            if ended or time.monotonic() > limit:
                about = f"{', '.join(ended)} ended" if ended else f"waited {READY_SECONDS:.0f} s ({trouble})"
                logs = [processes.end_of_log(self.logs / f"{name}.log") for name in ended or [component]]
                raise ClusterError("\n".join([f"while waiting until {what}: {about}", *logs]))
            time.sleep(0.05)

    def _configure(self) -> None:
        """Choose ports, make keys, tokens and kubeconfigs, and set down each component's command."""
        etcd, peer, api, manager, scheduler = _free_ports(5)
        self.url = f"https://127.0.0.1:{api}"
        keys = self.ca_file.parent
        make_key = ["init", "phase", "certs", "sa", f"--cert-dir={keys}"]
        processes.run([self._programs["kubeadm"], *make_key], environment=_ENVIRONMENT)
        users = {
            "admin": "system:masters",
            "system:kube-controller-manager": "",
            "system:kube-scheduler": "",
        }
        tokens = {user: secrets.token_hex(16) for user in users}
        self.token = tokens["admin"]
        token_file = keys / "tokens.csv"
        token_file.write_text("".join(f'{tokens[user]},{user},{user},"{users[user]}"\n' for user in users))
        token_file.chmod(0o600)
        self.kubeconfig_for(self.kubeconfig, self.token)
        manager_config = self.run_dir / "kube-controller-manager.kubeconfig"
        self.kubeconfig_for(manager_config, tokens["system:kube-controller-manager"])
        scheduler_config = self.run_dir / "kube-scheduler.kubeconfig"
        self.kubeconfig_for(scheduler_config, tokens["system:kube-scheduler"])

        arguments: dict[str, dict[str, object]] = {
            "etcd": {
                "data-dir": self.run_dir / "etcd",
                "listen-client-urls": f"http://127.0.0.1:{etcd}",
                "advertise-client-urls": f"http://127.0.0.1:{etcd}",
                "listen-peer-urls": f"http://127.0.0.1:{peer}",
                "initial-advertise-peer-urls": f"http://127.0.0.1:{peer}",
                "initial-cluster": f"default=http://127.0.0.1:{peer}",
                # The data is thrown away with the session.
                "unsafe-no-fsync": "true",
                "quota-backend-bytes": 8 << 30,
                "log-level": "warn",
            },
            "kube-apiserver": {
                "etcd-servers": f"http://127.0.0.1:{etcd}",
                "bind-address": "127.0.0.1",
                "secure-port": api,
                "advertise-address": "127.0.0.1",
                # The kubernetes Service may not point to loopback; nobody here asks for it.
                "endpoint-reconciler-type": "none",
                "service-cluster-ip-range": "10.96.0.0/16",
                "cert-dir": keys,
                "token-auth-file": token_file,
                "authorization-mode": "RBAC",
                "disable-admission-plugins": "ServiceAccount",
                "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
                "service-account-key-file": keys / "sa.pub",
                "service-account-signing-key-file": keys / "sa.key",
                "profiling": "false",
            },
            "kube-controller-manager": {
                "kubeconfig": manager_config,
                "authentication-skip-lookup": "true",
                "bind-address": "127.0.0.1",
                "secure-port": manager,
                "leader-elect": "false",
                # Each controller has a service account and rights of its own, as kubeadm sets it up.
                "use-service-account-credentials": "true",
                "service-account-private-key-file": keys / "sa.key",
                "root-ca-file": self.ca_file,
                "node-monitor-period": "1s",
                "profiling": "false",
            }
            | self._limits(),
            "kube-scheduler": {
                "kubeconfig": scheduler_config,
                "authentication-skip-lookup": "true",
                "bind-address": "127.0.0.1",
                "secure-port": scheduler,
                "leader-elect": "false",
                "kube-api-qps": 5000,
                "kube-api-burst": 10000,
                "profiling": "false",
            },
            "kwok": {"kubeconfig": self.kubeconfig, "config": STAGES},
        }
        for name, flags in arguments.items():
            given = [f"--{flag}={value}" for flag, value in flags.items()]
            self._commands[name] = [self._programs[name], *given]
        self._health = {
            "etcd": f"http://127.0.0.1:{etcd}/health",
            "kube-apiserver": f"{self.url}/readyz",
            "kube-controller-manager": f"https://127.0.0.1:{manager}/healthz",
            "kube-scheduler": f"https://127.0.0.1:{scheduler}/healthz",
        }

    def _limits(self) -> dict[str, object]:
        limits: dict[str, object] = {}
        if self._settings.kube_api_qps is not None:
            limits["kube-api-qps"] = self._settings.kube_api_qps
            limits["kube-api-burst"] = 2 * self._settings.kube_api_qps
        if self._settings.concurrent_job_syncs is not None:
            limits["concurrent-job-syncs"] = self._settings.concurrent_job_syncs
        return limits


def clean_up_after_killed_runs() -> None:
    """End and remove the control planes whose owner is gone; those of the living, or made by hand, stay."""
    with cache.locked("controlplanes"):
        for path in _records().glob("*.json"):
            record = Record.load(path)
            if record is None:
                path.unlink(missing_ok=True)
            elif record.owner is not None and not record.owner.alive:
                cache.say(f"• removing what a killed run left in {record.run_dir}")
                record.erase()


def forget(run_dir: Path) -> None:
    """End and remove the control plane of `run_dir`; nothing there is fine."""
    if (record := Record.load(_record_path(run_dir.resolve()))) is not None:
        record.erase()


def clean_up_everything() -> None:
    """End and remove every control plane that this cache knows of, also those in use."""
    for path in _records().glob("*.json"):
        if (record := Record.load(path)) is not None:
            record.erase()


def _records() -> Path:
    return cache.root() / "controlplanes"


def _record_path(run_dir: Path) -> Path:
    return _records() / f"{hashlib.sha256(str(run_dir).encode()).hexdigest()[:16]}.json"


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise ClusterError(f"no {count} free ports between {PORTS.start} and {PORTS.stop} on 127.0.0.1")


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )


def _answers(url: str) -> bool:
    """Whether a health endpoint on loopback says 200; its certificate is of no interest."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _opener(context).open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
