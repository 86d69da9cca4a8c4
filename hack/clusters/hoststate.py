"""What a Docker engine and Kubernetes nodes change on a machine: recorded before, put back and compared
after.

Only what is listed here is ever undone, and only where it differs from the record; anything else that differs
is reported and left alone, since it may be somebody else's.
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
from clusters.debian import find_program

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

# Names that Docker gives to links, and words that its rules hold.
DOCKER_LINK = re.compile(r"docker0|br-[0-9a-f]{12}|veth[0-9a-f]+")
DOCKER_RULE = re.compile(r"DOCKER|docker0|br-[0-9a-f]{12}|172\.(1[6-9]|2\d|3[01])\.|fc00:")


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
        sysctls={name: value for name in SYSCTLS if (value := _sysctl(name)) is not None},
        links=[line.split(":")[1].split("@")[0].strip() for line in _lines("ip", "-o", "link")],
        routes=[route for family in ("-4", "-6") for route in _routes(family)],
        rules={command: _rules(command) for command in TABLES},
        mounts=[line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()],
        cgroups=[directory for directory, _, _ in os.walk(CGROUPS)],
        directories=[directory for directory in DIRECTORIES if Path(directory).exists()],
    )


def put_back(before: HostState, ours: Path, cgroup_parents: Iterable[str]) -> list[str]:
    """Undo what a stopped Docker daemon left, and say what differs from `before` all the same.

    `ours` is the daemon's directory: mounts below it go. `cgroup_parents` are the directories that it was
    given in each cgroup hierarchy: those and their empty parents go, where they were not there before.
    """
    after = observe()
    for mount in sorted(set(after.mounts) - set(before.mounts), reverse=True):
        if Path(mount).is_relative_to(ours):
            subprocess.run(["umount", "--lazy", mount], capture_output=True)
    for link in set(after.links) - set(before.links):
        if DOCKER_LINK.fullmatch(link):
            subprocess.run(["ip", "link", "delete", link], capture_output=True)
    for command in TABLES:
        _remove_rules(command, before.rules.get(command, []))
    _remove_cgroups(set(after.cgroups) - set(before.cgroups), [Path(p.strip("/")) for p in cgroup_parents])
    for directory in set(after.directories) - set(before.directories):
        cache.remove(Path(directory))
    for name, value in before.sysctls.items():
        if _sysctl(name) not in (value, None):
            (Path("/proc/sys") / name).write_text(value)
    return differences(before, observe())


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


def _changes(kind: str, before: Iterable[str], after: Iterable[str]) -> list[str]:
    old, new = set(before), set(after)
    return [f"{kind} remains: {item}" for item in sorted(new - old)] + [
        f"{kind} is gone: {item}" for item in sorted(old - new)
    ]


def _sysctl(name: str) -> str | None:
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


def _rules(command: str) -> list[str]:
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


def _remove_rules(command: str, before: Iterable[str]) -> None:
    """Delete Docker's rules, then its chains; and put its change of a policy back."""
    program = find_program(command)
    if program is None:
        return
    new = [rule for rule in _rules(command) if rule not in set(before)]

    def run(table: str, *arguments: str) -> None:
        subprocess.run([str(program), "-w", "-t", table, *arguments], capture_output=True)

    for action in ("-A", "-N", "-P"):
        for rule in new:
            table, what, rest = rule.split(" ", 2)
            if what != action:
                continue
            if what == "-P":
                run(table, "-P", rest.split()[0], "ACCEPT")
            elif not DOCKER_RULE.search(rest):
                continue
            elif what == "-A":
                run(table, "-D", *(word.strip('"') for word in rest.split(" ")))
            else:
                run(table, "-F", rest)
    for rule in new:
        table, what, rest = rule.split(" ", 2)
        if what == "-N" and DOCKER_RULE.search(rest):
            run(table, "-X", rest)


def _remove_cgroups(new: Iterable[str], parents: Iterable[Path]) -> None:
    """Remove the new directories on the way to one of `parents` and below it, the deepest first."""
    for directory in sorted(new, reverse=True):
        below = Path(*Path(directory).relative_to(CGROUPS).parts[1:])
        if below != Path() and any(below.is_relative_to(p) or p.is_relative_to(below) for p in parents):
            try:
                os.rmdir(directory)
            except OSError as error:
                cache.say(f"  could not remove the cgroup {directory}: {error}")
