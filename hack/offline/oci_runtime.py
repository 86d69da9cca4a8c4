"""An OCI runtime that asks runc for no more than this machine's processes hold. Standard library only.

Docker asks for all capabilities, lower out-of-memory scores and higher limits than its caller may have; where
CAP_SYS_RESOURCE is missing, runc then refuses the container. This script stands in for runc: it cuts the
request in the container's configuration down to what is allowed, and hands over to runc. It runs once for
each container operation, so it is kept small.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

RUNC = "/usr/sbin/runc"
GLOBAL_OPTIONS_WITH_VALUE = {"--root", "--log", "--log-format", "--criu", "--rootless"}

# Bits of /proc/PID/status' CapBnd, in the kernel's order.
CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]


def held_capabilities() -> set[str]:
    """The capabilities that a child of this process can have, with their CAP_ prefix."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            bits = int(line.split()[1], 16)
            return {f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if bits >> number & 1}
    raise OSError("/proc/self/status has no CapBnd line")


def reduce(process: dict[str, Any], held: set[str], score: int) -> None:
    """Cut an OCI process description down to the capabilities, score and limits that this process may hand
    on.
    """
    for name_of_set, names in (process.get("capabilities") or {}).items():
        process["capabilities"][name_of_set] = [name for name in names or [] if name in held]
    if process.get("oomScoreAdj") is not None:
        process["oomScoreAdj"] = max(process["oomScoreAdj"], score)
    for limit in process.get("rlimits") or []:
        _, hard = resource.getrlimit(getattr(resource, limit["type"]))
        if hard != resource.RLIM_INFINITY:
            limit["hard"] = min(limit["hard"], hard)
            limit["soft"] = min(limit["soft"], hard)


def file_to_reduce(arguments: list[str]) -> tuple[Path, bool] | None:
    """The file that a runc command reads, and whether the process is its field ``process`` or all of it."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        del rest[: 2 if rest[0] in GLOBAL_OPTIONS_WITH_VALUE else 1]
    if not rest:
        return None
    command, options = rest[0], rest[1:]

    def value(*names: str) -> str | None:
        for position, option in enumerate(options):
            name, equals, text = option.partition("=")
            if name in names:
                return text if equals else options[position + 1]
        return None

    if command in ("create", "run"):
        return Path(value("--bundle", "-b") or ".") / "config.json", True
    if command == "exec" and (path := value("--process", "-p")):
        return Path(path), False
    return None


def main(arguments: list[str]) -> None:
    """Reduce what the command is about to read, then become runc."""
    if (found := file_to_reduce(arguments)) is not None:
        path, nested = found
        content = json.loads(path.read_text())
        score = int(Path("/proc/self/oom_score_adj").read_text())
        reduce(content["process"] if nested else content, held_capabilities(), score)
        # Written in place: containerd keeps the file's owner and mode.
        path.write_text(json.dumps(content))
    os.execv(RUNC, [RUNC, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
