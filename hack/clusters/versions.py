"""Every pinned version, in one place.

Versions of Go modules are read from the locked ``hack/gomod/*/go.mod``, so that no number is written twice;
everything else is a constant here.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from clusters.errors import ClusterError

GOMOD = Path(__file__).resolve().parent.parent / "gomod"

DEBIAN = "bookworm"
PYTHON = "3.11"

# Used only where a registry answers.
PYTHON_IMAGE = f"python:{PYTHON}-slim-{DEBIAN}"


@cache
def module_version(gomod: str, module: str) -> str:
    """The version of `module` that ``hack/gomod/<gomod>/go.mod`` locks, with its leading ``v``.

    Raises ClusterError when that file does not name the module.
    """
    path = GOMOD / gomod / "go.mod"
    found = re.search(rf"^(?:require)?\s*{re.escape(module)} (v\S+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise ClusterError(f"{path} does not name {module}: add it with `go get -tool`, then run this again")
    return found.group(1)


def kubernetes() -> str:
    return module_version("kubernetes", "k8s.io/kubernetes")


def etcd() -> str:
    return module_version("etcd", "go.etcd.io/etcd/server/v3")


def containerd() -> str:
    return module_version("containerd", "github.com/containerd/containerd/v2")


def coredns() -> str:
    return module_version("coredns", "github.com/coredns/coredns")


def crictl() -> str:
    return module_version("crictl", "sigs.k8s.io/cri-tools")


def kind() -> str:
    return module_version("kind", "sigs.k8s.io/kind")


def kwok() -> str:
    return module_version("kwok", "sigs.k8s.io/kwok")
