"""A Docker engine: the one that answers, or one of our own, started and stopped again without a trace.

Our own keeps its data in the cache directory and is fenced in: containers reach each other and the host, and
nothing leaves the machine. Packets to the outside are rejected, pod and service addresses are unreachable
from the host (a Service without rules would otherwise be sent to the default gateway), and names are not
looked up outside.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clusters import cache, hoststate, oci_runtime, processes
from clusters.debian import find_program, is_root_on_debian, need
from clusters.errors import ClusterError
from clusters.hoststate import HostState

# kind's own defaults.
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"

START_SECONDS = 60.0
STOP_SECONDS = 40.0

# The longest path of a Unix socket is 107 bytes; containerd adds up to 50 to the directory it is given.
LONGEST_DIRECTORY = 57

PROGRAMS = {
    "docker": "docker.io",
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "mount": "mount",
}


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers. `host` is its address, None for the one that the environment names."""

    host: str | None

    @property
    def ours(self) -> bool:
        """Whether it is the one that we start and stop."""
        return self.host is not None

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which the docker command line, and kind, find this engine."""
        environment = dict(os.environ)
        if self.host is not None:
            # The engine that Debian has knows the classic builder; the command line may lack the other one.
            environment |= {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"}
            environment.pop("DOCKER_CONTEXT", None)
        return environment

    def run(self, *arguments: str, stdin: str | Path | None = None) -> str:
        """The output of a docker command, which may read text or a file. ClusterError when it fails."""
        return processes.run(["docker", *arguments], stdin=stdin, environment=self.environment).strip()

    def has_image(self, tag: str) -> bool:
        return bool(self.run("image", "ls", "--quiet", tag))

    def can_pull(self, image: str) -> bool:
        """Whether `image` is there or can be pulled. Our own engine is fenced in and is not even asked to."""
        if self.has_image(image):
            return True
        if self.ours:
            return False
        with contextlib.suppress(ClusterError), cache.step(f"docker pull {image}"):
            self.run("pull", "--quiet", image)
            return True
        return False


def find() -> Engine | None:
    """The engine that the environment names, else our own; None when neither answers."""
    if shutil.which("docker") is None:
        return None
    for engine in (Engine(None), Engine(_address())):
        with contextlib.suppress(ClusterError):
            engine.run("version", "--format", "{{.Server.Version}}")
            return engine
    return None


def up() -> Engine:
    """An engine that answers: the one that is there, or our own, started now.

    Raises ClusterError where there is none and none can be started, with the reason.
    """
    with cache.locked("docker"):
        engine = find()
        if engine is None:
            engine = _start()
        if engine.ours:
            _fence_in()
        return engine


def down() -> list[str]:
    """Stop our own engine, if there is one, and put the machine back; an engine of the user is left alone.

    Returns what still differs from before, a line each.
    """
    with cache.locked("docker"):
        before = HostState.load(_before())
        if before is None and not _record().exists():
            return []
        if not _alive():
            # A killed engine leaves containers that run on. It ends them when it is started again.
            _start()
        engine = Engine(_address())
        with cache.step("stopping our own docker"):
            containers = engine.run("container", "ls", "--all", "--quiet").split()
            if containers:
                engine.run("container", "rm", "--force", "--volumes", *containers)
            for network in engine.run("network", "ls", "--quiet", "--filter", "type=custom").split():
                engine.run("network", "rm", network)
            # What later builds under the same names have replaced.
            engine.run("image", "prune", "--force")
            processes.stop(processes.load(_record()), grace_seconds=STOP_SECONDS)
            processes.stop(list(_strays()), grace_seconds=5)
            _lift_fence()
            cache.remove(_directory() / "exec")
            _record().unlink(missing_ok=True)
        if before is None:
            return [f"what this machine was like before is not known ({_before()} is gone): nothing compared"]
        parents = _cgroup_parents().read_text().split() if _cgroup_parents().exists() else []
        remains = hoststate.put_back(before, _directory(), parents)
        _before().unlink()
        _cgroup_parents().unlink(missing_ok=True)
        return remains


def status() -> str:
    """One line on which engine there is."""
    engine = find()
    if engine is None:
        return "docker: none answers"
    version = engine.run("version", "--format", "{{.Server.Version}}")
    return f"docker: {'our own' if engine.ours else 'the one of this machine'}, {version}"


def _directory() -> Path:
    return cache.root() / "docker"


def _address() -> str:
    return f"unix://{_directory()}/docker.sock"


def _record() -> Path:
    return _directory() / "dockerd.json"


def _before() -> Path:
    return _directory() / "before.json"


def _cgroup_parents() -> Path:
    """The groups that the engine was given since `_before`: each time that of the process that started it."""
    return _directory() / "cgroup-parents"


def _alive() -> bool:
    return any(process.alive for process in processes.load(_record()))


def _start() -> Engine:
    """Start our own engine, also over what a killed one left."""
    if not is_root_on_debian():
        raise ClusterError(
            "no Docker engine answers (`docker version`), and our own can be started only by root on Debian: "
            "start Docker, or set DOCKER_HOST"
        )
    need(PROGRAMS)
    directory = _directory()
    directory.mkdir(exist_ok=True)
    if len(str(directory)) > LONGEST_DIRECTORY:
        raise ClusterError(f"{directory} is too long for a socket's path: set ASYNCFLOW_CACHE to another")
    processes.stop(processes.load(_record()), grace_seconds=STOP_SECONDS)
    for pid in _running("dockerd"):
        raise ClusterError(
            f"a Docker engine that does not answer runs as pid {pid}; two would undo each other's network. "
            "Set DOCKER_HOST to it, or stop it (`docker down`, with the ASYNCFLOW_CACHE that started it)"
        )
    if HostState.load(_before()) is None:
        hoststate.observe().save(_before())
        _cgroup_parents().unlink(missing_ok=True)
    with _cgroup_parents().open("a") as parents:
        parents.write(f"{_cgroup_parent() or ''}\n")
    # A new containerd takes the containers over from their shims, and a new engine ends them. What is stale
    # here would be taken for a running one as soon as its pid has gone to some other process.
    processes.stop([stray for stray in _strays() if Path(stray.name).name == "containerd"], grace_seconds=5)
    for stale in ("dockerd.pid", "docker.sock", "exec/containerd/containerd.pid"):
        cache.remove(directory / stale)
    log = directory / "dockerd.log"
    cache.remove(log)
    engine = Engine(_address())
    with cache.step("starting our own docker"):
        process = processes.start(
            [find_program("dockerd") or "dockerd", *_options()],
            log=log,
            dies_with_parent=False,
            environment=_clean_environment(),
        )
        processes.save(_record(), [process])
        limit = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(ClusterError):
                engine.run("version", "--format", "{{.Server.Version}}")
                return engine
            if not process.alive or time.monotonic() > limit:
                processes.stop([process])
                raise ClusterError(f"our own dockerd did not start:\n{processes.end_of_log(log)}")
            time.sleep(0.2)


def _options() -> Iterator[str]:
    directory = _directory()
    yield f"--data-root={directory}/data"
    yield f"--exec-root={directory}/exec"
    yield f"--pidfile={directory}/dockerd.pid"
    yield f"--host={_address()}"
    yield "--storage-driver=overlay2"
    # Where a container asks for names there is nobody: nothing is looked up outside this machine.
    yield "--dns=127.0.0.1"
    if (parent := _cgroup_parent()) is not None:
        # Containers stay within the limits that this process has.
        yield "--exec-opt=native.cgroupdriver=cgroupfs"
        yield f"--cgroup-parent={parent}"
    if "CAP_SYS_RESOURCE" not in oci_runtime.held_capabilities():
        yield f"--add-runtime=reduced={_install_runtime()}"
        yield "--default-runtime=reduced"


def _install_runtime() -> Path:
    """A copy of our OCI runtime that the engine can execute, also when this work tree is gone."""
    path = _directory() / "oci-runtime"
    interpreter = Path(sys.executable).resolve()
    path.write_text(f"#!{interpreter} -IS\n{Path(oci_runtime.__file__).read_text()}")
    path.chmod(0o755)
    return path


def _cgroup_parent() -> str | None:
    """With cgroup v1, the group for containers below our own memory group; None with v2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return f"{path.rstrip('/')}/docker"
    return None


def _clean_environment() -> Mapping[str, str]:
    """A daemon needs little of ours: above all no proxy."""
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/root")}


def _running(name: str) -> Iterator[int]:
    """The pids of all processes called `name` that run."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ClusterError):
                if (entry / "comm").read_text().strip() == name:
                    yield processes.Process.of(name, int(entry.name)).pid


def _strays() -> Iterator[processes.Process]:
    """Processes that outlive the engine: those whose command line names its run-time directory."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ClusterError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if any(word.startswith(f"{_directory()}/exec/") for word in words):
                    yield processes.Process.of(words[0], int(entry.name))


def _outer_links() -> list[str]:
    """The links of the default routes: what goes there leaves the machine."""
    routes = [*_routes("-4", "default"), *_routes("-6", "default")]
    return sorted({str(route["dev"]) for route in routes if "dev" in route})


def _routes(family: str, *selector: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        processes.run(["ip", family, "-json", "route", "show", *selector]) or "[]"
    )
    return found


def _fence() -> Iterator[tuple[str, str, list[str]]]:
    """The rules that keep containers' packets in: command, chain, rule."""
    for link in _outer_links():
        yield "iptables", "DOCKER-USER", ["-o", link, "-j", "REJECT"]
        yield "ip6tables", "FORWARD", ["-o", link, "-j", "REJECT"]


def _fence_in() -> None:
    """See to it that no packet of a container, pod or Service leaves this machine. May be called again."""
    for command, chain, rule in _fence():
        there = subprocess.run([command, "-w", "-C", chain, *rule], capture_output=True).returncode == 0
        if not there:
            try:
                processes.run([command, "-w", "-I", chain, *rule])
            except ClusterError as error:
                raise ClusterError(
                    f"{error}\nOur engine's rules were removed: run `docker down`, and again"
                ) from error
    taken = {str(route["dst"]) for route in _routes("-4")} - {"default", POD_NETWORK, SERVICE_NETWORK}
    for network in (POD_NETWORK, SERVICE_NETWORK):
        for other in taken:
            if ipaddress.ip_network(other).overlaps(ipaddress.ip_network(network)):
                raise ClusterError(
                    f"this machine has a route to {other}, which overlaps the cluster's {network}"
                )
        processes.run(["ip", "route", "replace", "unreachable", network])


def _lift_fence() -> None:
    for command, chain, rule in _fence():
        subprocess.run([command, "-w", "-D", chain, *rule], capture_output=True)
    for network in (POD_NETWORK, SERVICE_NETWORK):
        subprocess.run(["ip", "route", "del", "unreachable", network], capture_output=True)
