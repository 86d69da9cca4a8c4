"""Who leads: one operator works, the others stand by, and a change of hands loses and repeats nothing."""

import http.client
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from clusters.controlplane import ControlPlane
from support.cluster import Body, Cluster, Namespace
from support.operator_process import LEADING, ROOT, OperatorProcess

LEASE = "asyncflow-operator"
LEASE_SECONDS = timedelta(seconds=int(LEADING["ASYNCFLOW_LEASE_SECONDS"]))
TASK_LABEL = "asyncflow.dev/task"


class Witness(ThreadingHTTPServer):
    """Stands between an operator and the API server, and notes what the operator writes."""

    block_on_close = True
    daemon_threads = False

    def __init__(self, control_plane: ControlPlane) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.writes: list[str] = []
        self._address = urlsplit(control_plane.url).netloc
        self._trust = ssl.create_default_context(cafile=control_plane.ca_file)
        self._open: set[http.client.HTTPSConnection] = set()

    def onward(self) -> http.client.HTTPSConnection:
        """Return a connection to the API server."""
        made = http.client.HTTPSConnection(self._address, context=self._trust)
        self._open.add(made)
        return made

    def done(self, connection: http.client.HTTPSConnection) -> None:
        """Close a connection to the API server."""
        self._open.discard(connection)
        connection.close()

    def end(self) -> None:
        """Cut off all who still wait for an answer."""
        for connection in list(self._open):
            if connection.sock is not None:
                with suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
        self.shutdown()
        self.server_close()


class _Passing(BaseHTTPRequestHandler):
    """Passes requests on, and answers back in chunks as they come."""

    protocol_version = "HTTP/1.1"
    server: Witness

    def setup(self) -> None:
        super().setup()
        self._onward = self.server.onward()

    def finish(self) -> None:
        self.server.done(self._onward)
        with suppress(OSError):
            super().finish()

    def _pass_on(self) -> None:
        if self.command != "GET":
            self.server.writes.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {
            name: text for name, text in self.headers.items() if name not in ("Host", "Accept-Encoding")
        }
        try:
            self._onward.request(self.command, self.path, body, headers)
            answer = self._onward.getresponse()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while part := answer.read1():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()
            answer.close()  # else its connection takes no other request
            self.wfile.write(b"0\r\n\r\n")
        except (OSError, http.client.HTTPException):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what was asked is noted."""


@pytest.fixture
def witness(control_plane: ControlPlane) -> Iterator[Witness]:
    made = Witness(control_plane)
    serving = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    yield made
    made.end()
    serving.join()


@pytest.fixture
def other(operator_kubeconfig: Path, tmp_path: Path, leader: OperatorProcess) -> Iterator[OperatorProcess]:
    """A second operator, which stands by."""
    process = OperatorProcess(operator_kubeconfig, tmp_path / "other.log")
    with ended(process):
        process.start()
        yield process


@pytest.fixture
def watched(
    operator_kubeconfig: Path, tmp_path: Path, leader: OperatorProcess, witness: Witness
) -> Iterator[OperatorProcess]:
    """A second operator, which stands by; the witness sees what it writes."""
    config = yaml.safe_load(operator_kubeconfig.read_text())
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{witness.server_port}"}
    path = tmp_path / "watched.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    process = OperatorProcess(path, tmp_path / "watched.log")
    with ended(process):
        process.start()
        yield process


@contextmanager
def ended(process: OperatorProcess) -> Iterator[None]:
    """See that an operator has ended, and has given the Lease back if it led."""
    try:
        yield
    finally:
        process.resume()
        process.stop()


@pytest.fixture
def system(cluster: Cluster) -> Namespace:
    """Where the leader's Lease is."""
    return Namespace(cluster, "asyncflow-system")


@pytest.fixture
def leader(operator: OperatorProcess, system: Namespace) -> OperatorProcess:
    """The session's operator, which leads."""
    return leads(system, operator)


def leads(system: Namespace, process: OperatorProcess) -> OperatorProcess:
    """Wait until an operator has the Lease."""
    system.wait("Lease", LEASE, held_by(process), what=f"{process.identity} as its holder")
    return process


def held_by(process: OperatorProcess) -> Callable[[Body], bool]:
    return lambda lease: lease["spec"].get("holderIdentity") == process.identity


def lease_of(system: Namespace) -> dict[str, Any]:
    lease = system.get("Lease", LEASE)
    assert lease is not None
    spec: dict[str, Any] = lease["spec"]
    return spec


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def finished(job: Body) -> bool:
    conditions = job.get("status", {}).get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


class Load:
    """Tasks of which some fail once, at most so many at a time; all that is made of them is counted."""

    LIMIT = 4
    TASKS = 10

    def __init__(self, ns: Namespace) -> None:
        self._ns = ns
        self.names = [f"a-{n}" for n in range(self.TASKS)]
        ns.task_type(maxConcurrent=self.LIMIT)
        for n, name in enumerate(self.names):
            ns.task(name, payload={"seconds": 0.7, "exits": self._exits(n)})

    @staticmethod
    def _exits(n: int) -> list[int]:
        return [1, 0] if n % 3 == 0 else [0]

    def run(self, interrupt: Callable[[], None]) -> None:
        """Watch until all have ended, with an interruption in the midst; then check what was made."""
        live: set[str] = set()
        made: Counter[str] = Counter()
        most, over, calm = 0, 0, True
        wanted = {
            f"{name}-0-{k + 1}" for n, name in enumerate(self.names) for k in range(len(self._exits(n)))
        }
        for event, job in self._ns.watch("Job", seconds=90):
            name, uid = job["metadata"]["name"], job["metadata"]["uid"]
            made[name] += event == "ADDED"
            if event == "DELETED" or finished(job):
                over += uid in live
                live.discard(uid)
            else:
                live.add(uid)
            most = max(most, len(live))
            if over == 2 and calm:
                calm = False
                interrupt()
            if over == len(wanted):
                break
        bodies = self._ns.wait_ended(self.names)
        for n, name in enumerate(self.names):
            history = [(a["number"], a["outcome"]) for a in bodies[name]["status"]["attempts"]]
            outcomes = ["Failed" if code else "Succeeded" for code in self._exits(n)]
            assert history == list(enumerate(outcomes, 1)), name
        assert made == Counter(wanted), "each attempt has had one Job"
        pods = Counter(
            e["involvedObject"]["name"] for e in self._ns.all("Event") if e["reason"] == "SuccessfulCreate"
        )
        assert pods == Counter(wanted), "each attempt has had one pod"
        assert most == self.LIMIT


class TestStandingBy:
    def test_it_is_ready_and_does_no_work(
        self,
        ns: Namespace,
        leader: OperatorProcess,
        watched: OperatorProcess,
        witness: Witness,
        system: Namespace,
    ) -> None:
        assert watched.probe("/readyz") == (200, "ok")
        ns.task_type()
        ns.task("a", payload={"exits": [1, 0]})
        ns.wait_phase("a", "Succeeded")
        assert held_by(leader)({"spec": lease_of(system)})
        assert [write for write in witness.writes if "/tasktypes/" not in write] == []
        assert watched.probe("/healthz") == (200, "ok")
        assert watched.stop() == 0

    def test_it_writes_nothing_to_a_type_either(
        self, ns: Namespace, watched: OperatorProcess, witness: Witness
    ) -> None:
        for n in range(10):
            ns.task_type(f"t-{n}")
        for n in range(10):
            ns.condition("TaskType", f"t-{n}", "Ready")
            ns.task(f"a-{n}", kind=f"t-{n}")
        ns.wait_ended([f"a-{n}" for n in range(10)])
        assert witness.writes == []


class TestChangeOfHands:
    def test_a_leader_that_is_killed_is_followed_once_its_lease_has_run_out(
        self, ns: Namespace, leader: OperatorProcess, other: OperatorProcess, system: Namespace
    ) -> None:
        lost: list[dict[str, Any]] = []

        def kill() -> None:
            leader.kill()
            lost.append(lease_of(system))

        Load(ns).run(kill)
        (former,), now = lost, lease_of(system)
        assert (former["holderIdentity"], now["holderIdentity"]) == (leader.identity, other.identity)
        pause = moment(now["acquireTime"]) - moment(former["renewTime"])
        assert LEASE_SECONDS <= pause <= LEASE_SECONDS + timedelta(seconds=10)
        assert "for in-flight writes of the previous leader" in other.log.read_text()

    def test_a_leader_that_ends_in_order_gives_the_lease_back(
        self, ns: Namespace, leader: OperatorProcess, other: OperatorProcess, system: Namespace
    ) -> None:
        def stop() -> None:
            assert leader.stop() == 0

        Load(ns).run(stop)
        assert "for in-flight writes of the previous leader" not in other.log.read_text()
        assert held_by(other)({"spec": lease_of(system)})

    def test_a_leader_without_work_under_way_ends_sooner_than_its_lease_would(
        self, leader: OperatorProcess, system: Namespace
    ) -> None:
        said, told = len(leader.log.read_text()), datetime.now(UTC)
        assert leader.stop() == 0
        lease = lease_of(system)
        assert lease["holderIdentity"] == ""
        assert moment(lease["renewTime"]) - told < LEASE_SECONDS
        assert "stopping: finishing in-flight work" in leader.log.read_text()[said:]

    def test_a_leader_that_was_stopped_past_its_lease_writes_nothing_any_more(
        self,
        ns: Namespace,
        leader: OperatorProcess,
        watched: OperatorProcess,
        witness: Witness,
        system: Namespace,
    ) -> None:
        leader.stop()
        leads(system, watched)
        ns.task_type(maxConcurrent=1, retry={"backoff": {"initialSeconds": 4, "jitterPercent": 0}})
        ns.task("retried", payload={"exits": [1, 0]})
        ns.wait("AsyncTask", "retried", lambda body: body["status"].get("reason") == "BackOff")
        assert witness.writes, "it leads"
        leader.start(wait=False)
        watched.pause()  # its next attempt falls due meanwhile, and so does the renewal of its lease
        ns.task("new")
        leads(system, leader)
        ns.wait_ended(["retried", "new"])
        before = len(witness.writes)
        watched.resume()
        watched.wait_ready()
        ns.task("last", payload={"exits": [1, 0]})
        ns.wait_ended(["last"])
        assert "lost leader Lease, standing by" in watched.log.read_text()
        ours = [write for write in witness.writes[before:] if LEASE not in write]  # that one is a swap
        assert ours == []
        assert held_by(leader)({"spec": lease_of(system)})
        assert watched.probe("/readyz") == (200, "ok")
        made = Counter(
            e["involvedObject"]["name"] for e in ns.all("Event") if e["reason"] == "SuccessfulCreate"
        )
        assert made == Counter(["retried-0-1", "retried-0-2", "new-0-1", "last-0-1", "last-0-2"])

    def test_a_lease_that_is_deleted_under_the_leader_repeats_nothing(
        self, ns: Namespace, leader: OperatorProcess, other: OperatorProcess, system: Namespace
    ) -> None:
        old = system.get("Lease", LEASE)
        assert old is not None
        Load(ns).run(lambda: system.delete("Lease", LEASE))
        new = system.wait("Lease", LEASE, lambda lease: bool(lease["spec"].get("holderIdentity")))
        assert new["metadata"]["uid"] != old["metadata"]["uid"]
        assert new["spec"]["holderIdentity"] in (leader.identity, other.identity)


class TestSettings:
    def test_a_renewal_that_is_rarer_than_the_lease_allows_is_refused(
        self, operator_kubeconfig: Path
    ) -> None:
        settings = {**LEADING, "ASYNCFLOW_LEASE_SECONDS": "10", "ASYNCFLOW_RENEW_SECONDS": "10"}
        ended = subprocess.run(
            [sys.executable, "-m", "asyncflow", "run", "--kubeconfig", str(operator_kubeconfig)],
            env={**os.environ, **settings, "PYTHONPATH": str(ROOT / "operator"), "ASYNCFLOW_PORT": "0"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode != 0
        assert "renew_seconds (10) must be at most half of lease_seconds (10)" in ended.stderr
        assert "Traceback" not in ended.stderr
