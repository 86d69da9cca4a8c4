"""Puts a machine back as it was before our own Docker engine ran on it.

Only what `hoststate` lists is ever undone, and only where it differs from the record; anything else that
differs is reported and left alone, since it may be somebody else's.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from clusters import cache
from offline.debian import find_program
from offline.hoststate import CGROUPS, TABLES, HostState, differences, observe, packet_filter_rules, sysctl

# Names that Docker gives to links, and words that its rules hold.
DOCKER_LINK = re.compile(r"docker0|br-[0-9a-f]{12}|veth[0-9a-f]+")
DOCKER_RULE = re.compile(r"DOCKER|docker0|br-[0-9a-f]{12}|172\.(1[6-9]|2\d|3[01])\.|fc00:")


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
        if sysctl(name) not in (value, None):
            (Path("/proc/sys") / name).write_text(value)
    return differences(before, observe())


def _remove_rules(command: str, before: Iterable[str]) -> None:
    """Delete Docker's rules, then its chains; and put its change of a policy back."""
    program = find_program(command)
    if program is None:
        return
    new = [rule for rule in packet_filter_rules(command) if rule not in set(before)]

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
