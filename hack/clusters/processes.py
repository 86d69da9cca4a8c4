"""Commands that are run, and daemons that are ours: known by a record on disk, ended by that and nothing
else.

A record names a process by its pid, its start time and the boot of the machine, so that a pid that has been
given to another process since is never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from clusters import cache
from clusters.errors import ClusterError

LOG_LINES_SHOWN = 30

# No command takes longer; the longest is the first build of Kubernetes.
COMMAND_SECONDS = 3600.0

# Runs in the child, before the daemon: asks the kernel to kill it together with its parent (PR_SET_PDEATHSIG
# is 1), and ends at once if the parent is gone already. Exec keeps both the pid and the request.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""

# The kernel's "parent" is the thread that made the child, so all children are made by one thread, which lives
# as long as the interpreter does.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


@dataclass(frozen=True)
class Process:
    """A process that another run can recognize: `start_ticks` is its start time as /proc has it."""

    name: str
    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, name: str, pid: int) -> Process:
        """The process that has `pid` now. Raises ClusterError when there is none."""
        ticks = _start_ticks(pid)
        if ticks is None:
            raise ClusterError(f"{name} (pid {pid}) has ended")
        return cls(name, pid, ticks, boot_id())

    @classmethod
    def current(cls) -> Process:
        """This very process."""
        return cls.of("python", os.getpid())

    @property
    def alive(self) -> bool:
        """Whether it runs: the pid exists, is the same process as then, and is no zombie."""
        return self.boot_id == boot_id() and _start_ticks(self.pid) == self.start_ticks

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is alive."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def save(path: Path, processes: Iterable[Process]) -> None:
    """Write a record of `processes`, whole or not at all."""
    cache.write(path, json.dumps([asdict(process) for process in processes], indent=1))


def load(path: Path) -> list[Process]:
    """The processes of a record; none where there is no record, or where it is not one."""
    try:
        return [Process(**entry) for entry in json.loads(path.read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def start(
    command: Sequence[str | Path],
    *,
    log: Path,
    dies_with_parent: bool,
    environment: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Process:
    """Start a daemon in a session of its own: a Ctrl-C at the terminal is not for it. `log` gets its output.

    With `dies_with_parent` it is killed when this interpreter ends, however it ends.
    """
    arguments = [str(part) for part in command]
    name = name or Path(arguments[0]).name
    if dies_with_parent:
        arguments = [*_dying_with_parent(), *arguments]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = _spawner.submit(
            subprocess.Popen,
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ if environment is None else environment),
            start_new_session=True,
        ).result()
    try:
        process = Process.of(name, child.pid)
    except ClusterError as error:
        child.wait()
        raise ClusterError(f"{error}; {end_of_log(log)}") from error
    _children[process] = child
    return process


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | Path | None = None,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    dies_with_parent: bool = False,
    limit_seconds: float = COMMAND_SECONDS,
) -> str:
    """Run a command to its end and return what it wrote to standard output.

    `stdin` is text, or a file to read. `dies_with_parent` is for what takes long: it is killed with this
    interpreter, so that it cannot meet the next run. Raises ClusterError, with the end of what it said, when
    it fails or has not ended in time.
    """
    arguments = [str(part) for part in command]
    full = [*_dying_with_parent(), *arguments] if dies_with_parent else arguments
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(stdin.open("rb")) if isinstance(stdin, Path) else None
        try:
            done = subprocess.run(
                full,
                **({"input": stdin} if isinstance(stdin, str) else {"stdin": source or subprocess.DEVNULL}),
                capture_output=True,
                cwd=directory,
                env=None if environment is None else dict(environment),
                text=True,
                errors="replace",
                timeout=limit_seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(
                f"`{' '.join(arguments)}` had not ended after {limit_seconds:.0f} s"
            ) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-LOG_LINES_SHOWN:]
        where = f" in {directory}" if directory else ""
        raise ClusterError("\n".join([f"`{' '.join(arguments)}` failed{where}:", *said]))
    return done.stdout


def stop(processes: Sequence[Process], *, grace_seconds: float = 10.0) -> None:
    """End these processes, all at once: SIGTERM, and SIGKILL to those that are still there after the grace.

    Returns when all have ended. Raises ClusterError when one survives SIGKILL for ten seconds.
    """
    for process in processes:
        process.signal(signal.SIGTERM)
    remaining = _wait(processes, grace_seconds)
    for process in remaining:
        process.signal(signal.SIGKILL)
    remaining = _wait(remaining, 10.0)
    if remaining:
        names = ", ".join(f"{process.name} (pid {process.pid})" for process in remaining)
        raise ClusterError(f"{names} survived SIGKILL for ten seconds: it may hang in a system call")


def end_of_log(log: Path, lines: int = LOG_LINES_SHOWN) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return f"(no log at {log})"
    return "\n".join([f"the end of {log}:", *(f"  {line}" for line in text.splitlines()[-lines:])])


# Children of this interpreter, which have to be reaped by it.
_children: dict[Process, subprocess.Popen[bytes]] = {}


def _dying_with_parent() -> list[str]:
    """What to put before a command so that it dies with this interpreter."""
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]


def _wait(processes: Sequence[Process], seconds: float) -> list[Process]:
    """Those of `processes` that still live when all have ended or the time is up."""
    limit = time.monotonic() + seconds
    while True:
        for process in processes:
            if not process.alive and (child := _children.pop(process, None)) is not None:
                child.wait()
        processes = [process for process in processes if process.alive]
        if not processes or time.monotonic() > limit:
            return list(processes)
        time.sleep(0.02)


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; None for a process that does not exist or is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def boot_id() -> str:
    """Names this run of the machine's kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
