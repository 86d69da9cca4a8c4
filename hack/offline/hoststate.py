"""What a Docker engine and Kubernetes nodes change on a machine: recorded before, and compared after.

`restoration` puts back what is listed here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from clusters import cache, processes
from offline.debian import find_program

# In this order: writing ip_forward changes the others of its family.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/accept_redirects",
    "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/conf/all/forwarding",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/accept_redirects",
    "net/ipv4/conf/default/forwarding",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/default/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "fs/file-max",
    "fs/protected_fifos",
    "fs/protected_hardlinks",
    "fs/protected_regular",
    "fs/protected_symlinks",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/pid_max",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
# Directories that the daemon makes outside its own.
DIRECTORIES = ("/etc/docker", "/run/containerd", "/run/docker")
TABLES = ("iptables", "ip6tables")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class HostState:
    """The state of this machine, as far as it is of interest here. Rules are by command, iptables or
    ip6tables.
    """

    boot_id: str
    sysctls: dict[str, str]
    links: list[str]
    routes: list[str]
    rules: dict[str, list[str]]
    mounts: list[str]
    cgroups: list[str]
    directories: list[str]

    def save(self, path: Path) -> None:
        cache.write(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> HostState | None:
        """The state recorded at `path` since this machine was booted; None where there is none."""
        try:
            state = cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return state if state.boot_id == processes.boot_id() else None


def observe() -> HostState:
    """The state of this machine now."""
    return HostState(
        boot_id=processes.boot_id(),
        sysctls={name: value for name in SYSCTLS if (value := sysctl(name)) is not None},
        links=[line.split(":")[1].split("@")[0].strip() for line in _lines("ip", "-o", "link")],
        routes=[route for family in ("-4", "-6") for route in _routes(family)],
        rules={command: packet_filter_rules(command) for command in TABLES},
        mounts=[line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()],
        cgroups=[directory for directory, _, _ in os.walk(CGROUPS)],
        directories=[directory for directory in DIRECTORIES if Path(directory).exists()],
    )


def differences(before: HostState, after: HostState) -> list[str]:
    """What differs, a line each; empty when nothing does."""
    found = [
        f"sysctl {name} is {after.sysctls.get(name)}, was {value}"
        for name, value in before.sysctls.items()
        if after.sysctls.get(name) != value
    ]
    for command in TABLES:
        found += _changes(f"{command} rule", before.rules.get(command, []), after.rules.get(command, []))
    found += _changes("link", before.links, after.links)
    found += _changes("route", before.routes, after.routes)
    found += _changes("mount", before.mounts, after.mounts)
    # Other programs' groups come and go meanwhile.
    found += _changes("cgroup", filter(_of_docker, before.cgroups), filter(_of_docker, after.cgroups))
    found += _changes("directory", before.directories, after.directories)
    return found


def _of_docker(cgroup: str) -> bool:
    return "docker" in Path(cgroup).parts


def _changes(noun: str, before: Iterable[str], after: Iterable[str]) -> list[str]:
    old, new = set(before), set(after)
    return [f"{noun} remains: {item}" for item in sorted(new - old)] + [
        f"{noun} is gone: {item}" for item in sorted(old - new)
    ]


def sysctl(name: str) -> str | None:
    """A kernel setting, by its path below /proc/sys; None where the kernel does not have it."""
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return None


def _lines(program: str, *arguments: str) -> list[str]:
    """The output of a program, or nothing where it is not installed."""
    path = find_program(program)
    if path is None:
        return []
    return subprocess.run([path, *arguments], capture_output=True, text=True).stdout.splitlines()


def _routes(family: str) -> list[str]:
    """Routes without what changes by itself, such as the remaining time of an advertised one."""
    return [
        re.sub(r" expires \S+", "", " ".join(line.split()))
        for line in _lines("ip", family, "route", "show", "table", "all")
    ]


def packet_filter_rules(command: str) -> list[str]:
    """All rules and all added chains, each with its table: ``filter -A FORWARD …``, ``nat -N DOCKER``.

    A built-in chain is named only where its policy is not ACCEPT: that it exists says nothing.
    """
    found: list[str] = []
    table = ""
    for line in _lines(f"{command}-save"):
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            if policy == "-":
                found.append(f"{table} -N {chain}")
            elif policy != "ACCEPT":
                found.append(f"{table} -P {chain} {policy}")
        elif line.startswith("-A"):
            found.append(f"{table} {line}")
    return found
