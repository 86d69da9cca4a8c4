"""What is used up: CPU and memory of processes, and the API server's requests by its own count."""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from support.admin_api import AdminApi

TICKS = os.sysconf("SC_CLK_TCK")
REQUEST = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$")
WATCH_EVENT = re.compile(r"^apiserver_watch_events_(total|sizes_sum)\{(.*)\} (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')
WRITES = ("POST", "PUT", "PATCH", "APPLY")


class Memory(StrEnum):
    """Which size of a resident set, by its name in ``/proc/PID/status``."""

    NOW = "VmRSS"
    PEAK = "VmHWM"


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_kib(pid: int, which: Memory = Memory.NOW) -> int:
    """Return a process's resident set, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(which)]
    return int(line.split()[1])


@dataclass(frozen=True)
class Reading:
    """What was used up until one moment."""

    cpu: Mapping[str, float]
    """CPU seconds by the name of a process."""
    requests: Counter[tuple[str, str]]
    """How many requests succeeded, by verb and ``group/resource/subresource``."""
    watch_events: Counter[str]
    """How many events were sent to watchers, by ``group/resource``."""
    watch_bytes: Counter[str]

    @classmethod
    async def take(cls, api: AdminApi, pids: Mapping[str, int]) -> "Reading":
        """Read the counters of the API server and of processes, by name and process id."""
        requests: Counter[tuple[str, str]] = Counter()
        events: dict[str, Counter[str]] = {"total": Counter(), "sizes_sum": Counter()}
        for line in (await api.text("/metrics")).splitlines():
            if found := REQUEST.match(line):
                label = dict(LABEL.findall(found[1]))
                what = "/".join(label[key] for key in ("group", "resource", "subresource"))
                if label["code"].startswith("2"):
                    requests[label["verb"], what.strip("/")] += int(float(found[2]))
            elif found := WATCH_EVENT.match(line):
                label = dict(LABEL.findall(found[2]))
                what = f"{label.get('group', '')}/{label.get('resource', label.get('kind', ''))}".strip("/")
                events[found[1]][what] += int(float(found[3]))
        cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
        return cls(cpu, requests, events["total"], events["sizes_sum"])

    def since(self, before: "Reading") -> "Reading":
        """Return what was used up between an earlier reading and this one."""
        return Reading(
            {name: self.cpu[name] - before.cpu.get(name, 0) for name in self.cpu},
            self.requests - before.requests,
            self.watch_events - before.watch_events,
            self.watch_bytes - before.watch_bytes,
        )

    def writes(self, *what: str) -> int:
        """Return how many writes of these resources succeeded; deletions are not among them."""
        return sum(
            number for (verb, name), number in self.requests.items() if verb in WRITES and name in what
        )
