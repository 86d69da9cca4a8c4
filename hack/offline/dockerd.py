"""A Docker engine of our own, for a machine where none answers: started on Debian, stopped without a trace.

It keeps its data in the cache directory and is fenced in (see `fence`): nothing leaves the machine, and names
are not looked up outside. There is one on a machine: two would undo each other's network.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from clusters import cache, processes
from clusters.engine import Engine
from clusters.errors import ClusterError
from offline import fence, hoststate, oci_runtime, restoration
from offline.debian import find_program, is_root_on_debian, need
from offline.hoststate import HostState

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


def engine() -> Engine:
    """Our own engine, by its address; whether it answers is not asked."""
    return Engine(f"unix://{_directory()}/docker.sock")


def start() -> Engine:
    """Start our own engine, also over what a killed one left. The caller holds the lock "docker".

    Raises ClusterError where it cannot be started, with the reason.
    """
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
                engine().version()
                return engine()
            if not process.alive or time.monotonic() > limit:
                processes.stop([process])
                raise ClusterError(f"our own dockerd did not start:\n{processes.end_of_log(log)}")
            time.sleep(0.2)


def stop() -> list[str]:
    """Stop our own engine, if there is one, and put the machine back. The caller holds the lock "docker".

    Returns what still differs from before, a line each.
    """
    before = HostState.load(_before())
    if before is None and not _record().exists():
        return []
    if not _alive():
        # A killed engine leaves containers that run on. It ends them when it is started again.
        start()
    with cache.step("stopping our own docker"):
        _remove_containers()
        processes.stop(processes.load(_record()), grace_seconds=STOP_SECONDS)
        processes.stop(list(_strays()), grace_seconds=5)
        fence.take_down()
        cache.remove(_directory() / "exec")
        _record().unlink(missing_ok=True)
    if before is None:
        return [f"what this machine was like before is not known ({_before()} is gone): nothing compared"]
    parents = _cgroup_parents().read_text().split() if _cgroup_parents().exists() else []
    remains = restoration.put_back(before, _directory(), parents)
    _before().unlink()
    _cgroup_parents().unlink(missing_ok=True)
    return remains


def _remove_containers() -> None:
    """Remove all containers, their networks, and what later builds under the same names have replaced."""
    run = engine().run
    containers = run("container", "ls", "--all", "--quiet").split()
    if containers:
        run("container", "rm", "--force", "--volumes", *containers)
    for network in run("network", "ls", "--quiet", "--filter", "type=custom").split():
        run("network", "rm", network)
    run("image", "prune", "--force")


def _directory() -> Path:
    return cache.root() / "docker"


def _record() -> Path:
    return _directory() / "dockerd.json"


def _before() -> Path:
    return _directory() / "before.json"


def _cgroup_parents() -> Path:
    """The groups that the engine was given since `_before`: each time that of the process that started it."""
    return _directory() / "cgroup-parents"


def _alive() -> bool:
    return any(process.alive for process in processes.load(_record()))


def _options() -> Iterator[str]:
    directory = _directory()
    yield f"--data-root={directory}/data"
    yield f"--exec-root={directory}/exec"
    yield f"--pidfile={directory}/dockerd.pid"
    yield f"--host={engine().host}"
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
