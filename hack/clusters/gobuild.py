"""Binaries from the locked Go modules in ``hack/gomod``."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clusters import cache, processes, versions
from clusters.errors import ClusterError


@dataclass(frozen=True)
class Program:
    """A binary: the module directory that locks it, its package there, its file name, and how it is built."""

    gomod: str
    package: str
    name: str
    variables: tuple[str, ...] = ()
    tags: str = ""


def _kubernetes(name: str) -> Program:
    version = versions.kubernetes()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    component = "k8s.io/component-base/version"
    return Program(
        gomod="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        name=name,
        variables=(
            f"{component}.gitVersion={version}",
            f"{component}.gitMajor={major}",
            f"{component}.gitMinor={minor}",
            f"k8s.io/client-go/pkg/version.gitVersion={version}",
        ),
    )


def _containerd(name: str) -> Program:
    module = "github.com/containerd/containerd/v2"
    return Program(
        gomod="containerd",
        package=f"{module}/cmd/{name}",
        name=name,
        variables=(f"{module}/version.Version={versions.containerd()}",),
        tags="no_btrfs no_devmapper no_zfs no_aufs",
    )


PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        *map(
            _kubernetes,
            (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubectl",
                "kubeadm",
                "kubelet",
                "kube-proxy",
            ),
        ),
        *map(_containerd, ("containerd", "containerd-shim-runc-v2", "ctr")),
        Program("etcd", "go.etcd.io/etcd/server/v3", "etcd"),
        Program("crictl", "sigs.k8s.io/cri-tools/cmd/crictl", "crictl"),
        Program("coredns", ".", "coredns"),
        Program("pause", ".", "pause"),
        Program("kind", "sigs.k8s.io/kind", "kind"),
        Program("kwok", "sigs.k8s.io/kwok/cmd/kwok", "kwok"),
    )
}


def binaries(*names: str) -> dict[str, Path]:
    """The paths of these binaries, built where they are missing or their module, version or flags have
    changed.

    The missing ones of one module are built by one ``go build``: they share its work.
    Raises ClusterError when there is no Go toolchain, or when a build fails.
    """
    found: dict[str, Path] = {}
    missing: dict[str, list[Program]] = {}
    for name in names:
        program = PROGRAMS[name]
        path = _path(program)
        if path.exists():
            os.utime(path.parent)
            found[name] = path
        else:
            missing.setdefault(program.gomod, []).append(program)
    for gomod, programs in missing.items():
        with cache.locked(f"go-{gomod}"):
            _build([p for p in programs if not _path(p).exists()])
        found |= {p.name: _path(p) for p in programs}
    return {name: found[name] for name in names}


def binary(name: str) -> Path:
    """The path of one binary; see `binaries`."""
    return binaries(name)[name]


def identity(*names: str) -> str:
    """A fingerprint of what these binaries are made of, known without building them."""
    return cache.fingerprint(*(str(_path(PROGRAMS[name]).relative_to(cache.root())) for name in names))


def module_directory(gomod: str, module: str) -> Path:
    """Where the Go toolchain keeps the source of `module`; fetched where it is missing."""
    directory = versions.GOMOD / gomod
    processes.run([_toolchain(), "mod", "download", module], directory=directory)
    listing = [_toolchain(), "list", "-m", "-f", "{{.Dir}}", module]
    return Path(processes.run(listing, directory=directory).strip())


def _path(program: Program) -> Path:
    inputs = cache.fingerprint(
        versions.GOMOD / program.gomod, *program.variables, program.tags, platform.machine()
    )
    return cache.root() / "go" / f"{program.gomod}-{inputs}" / program.name


def _toolchain() -> str:
    path = shutil.which("go") or "/usr/local/go/bin/go"
    if not Path(path).exists():
        raise ClusterError("no Go toolchain: install Go 1.26 or newer and put `go` on the PATH")
    return path


def _build(programs: Sequence[Program]) -> None:
    """One ``go build`` for programs of one module; each gets its name only when the whole build is done."""
    if not programs:
        return
    first = programs[0]
    final = _path(first).parent
    partial = final.with_name(f"{final.name}.partial")
    for leftover in final.parent.glob(f"{first.gomod}-*.partial"):
        cache.remove(leftover)
    partial.mkdir(parents=True)
    linked = " ".join(["-s", "-w", *(f"-X {variable}" for variable in first.variables)])
    # One package may be called otherwise than its directory (etcd's is `v3`); of several, -o is a directory.
    output = partial / first.name if len(programs) == 1 else f"{partial}/"
    command = [_toolchain(), "build", "-mod=readonly", "-trimpath", "-buildvcs=false", f"-ldflags={linked}"]
    command += [f"-tags={first.tags}"] if first.tags else []
    command += ["-o", str(output), *(program.package for program in programs)]
    names = ", ".join(program.name for program in programs)
    with cache.step(f"go build {names}"):
        processes.run(
            command,
            directory=versions.GOMOD / first.gomod,
            environment=os.environ | {"CGO_ENABLED": "0"},
            dies_with_parent=True,
        )
    final.mkdir(parents=True, exist_ok=True)
    for program in programs:
        (partial / program.name).rename(final / program.name)
    cache.remove(partial)
    cache.forget_old_versions(final.parent, first.gomod)
