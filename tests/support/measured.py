"""What a process has used, and how a long measurement tells of its progress."""

import os
import time
from enum import StrEnum
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


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


def say(text: str) -> None:
    """Report progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
