"""What ``make bench`` writes down: the figures, and how they were measured."""

import os
import platform
import subprocess
from typing import Any

from clusters import versions
from performance.bench.figures import Figures
from performance.bench.parts import QPS
from support.operator_process import ROOT


def content(figures: Figures, *, short: bool) -> dict[str, Any]:
    """Return what is written down of new figures."""
    return {
        **figures.summary(),
        "runs": figures.runs(),
        "cost": figures.cost(),
        "settings": {
            "kube_api_qps": {part.value: qps for part, qps in QPS.items()},
            "operator": operator_tree(),
            "short": short,
            "etcd_fsync": False,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "kubernetes": versions.kubernetes(),
            "kwok": versions.kwok(),
        },
    }


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return new content with the parts that only an earlier run has, if that measured the same operator."""
    if old.get("settings") != new["settings"]:
        return new
    return {**old, **new, "runs": {**old["runs"], **new["runs"]}, "cost": new["cost"] or old["cost"]}


def operator_tree() -> str:
    """Return which operator was measured: git's name for its folder, and whether that was changed."""
    try:
        tree = _git("rev-parse", "--short", "HEAD:operator/asyncflow")
        return tree + (" changed" if _git("status", "--porcelain", "operator/asyncflow") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()
