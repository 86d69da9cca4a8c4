"""The root file system of kind's nodes, made of Debian packages and of the files of kind's own base image."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from clusters import cache, gobuild, processes, versions
from clusters.errors import ClusterError
from offline import debian

PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "conntrack",
    "iptables",
    "nftables",
    "iproute2",
    "ethtool",
    "util-linux",
    "mount",
    "kmod",
    "libseccomp2",
    "pigz",
    "e2fsprogs",
    "bash",
    "ca-certificates",
    "curl",
    "jq",
    "procps",
    "socat",
    "runc",
    "containernetworking-plugins",
    "hostname",
]

CONTAINERD_CONFIG = "etc/containerd/config.toml"

# Change it when the modules of the node image make another one from the same inputs.
REVISION = "1"


def inputs() -> str:
    """A fingerprint of what the root file system is made of."""
    pinned = (versions.DEBIAN, versions.kind(), versions.kubernetes())
    return cache.fingerprint(*pinned, ",".join(PACKAGES), platform.machine(), REVISION)


def archive() -> Path:
    """The root file system as a tar archive, made unless the cache has it."""
    return cache.built("rootfs", "node", inputs(), "the nodes' Debian", _make)


def kind_files() -> Path:
    """The files that kind lays over Debian for its base image, by their path there."""
    files = gobuild.module_directory("kind", "sigs.k8s.io/kind") / "images/base/files"
    if not files.is_dir():
        raise ClusterError(f"{files} is missing: kind's module no longer holds the files of its base image")
    return files


def _make(archive: Path) -> None:
    with cache.scratch("node-rootfs") as scratch:
        root = scratch / "root"
        debian.bootstrap(root, tuple(PACKAGES))
        _configure(root)
        debian.slim(root)
        debian.pack(root, archive)


def _configure(root: Path) -> None:
    """Lay kind's files over a plain Debian, and switch off what makes no sense in a container."""
    files = kind_files()
    for source in sorted(files.rglob("*")):
        target = root / source.relative_to(files)
        if source.is_file() and not source.is_relative_to(files / "LICENSES"):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            executable = source.parent.name == "bin"
            target.chmod(0o755 if executable else 0o644)
    units = root / "lib/systemd/system"
    (units / "sysinit.target.wants/systemd-tmpfiles-setup.service").unlink(missing_ok=True)
    for directory, pattern in (
        (units, "multi-user.target.wants/*"),
        (units, "local-fs.target.wants/*"),
        (units, "basic.target.wants/*"),
        (units, "sockets.target.wants/*udev*"),
        (units, "sockets.target.wants/*initctl*"),
        (root / "etc/systemd/system", "*.wants/*"),
    ):
        for path in directory.glob(pattern):
            path.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as journald:
        journald.write("ReadKMsg=no\n")
    for command in (["enable", "kubelet", "containerd", "undo-mount-hacks"], ["mask", "systemd-binfmt"]):
        processes.run(["chroot", root, "systemctl", *command])
    for name in ("etc/kubernetes/manifests", "kind/manifests", "opt/cni/bin", "etc/cni/net.d"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for plugin in (root / "usr/lib/cni").iterdir():
        shutil.copy2(plugin, root / "opt/cni/bin" / plugin.name)
    containerd = root / CONTAINERD_CONFIG
    text = containerd.read_text()
    # Pods may not ask for a lower out-of-memory score than the node itself has. Harmless elsewhere.
    changed = text.replace("restrict_oom_score_adj = false", "restrict_oom_score_adj = true")
    if changed == text:
        raise ClusterError(f"kind's containerd configuration ({files}) no longer sets restrict_oom_score_adj")
    containerd.write_text(changed)
    (root / "kind/manifests/default-storage.yaml").write_text(
        "apiVersion: storage.k8s.io/v1\n"
        "kind: StorageClass\n"
        "metadata: {name: standard}\n"
        "provisioner: kubernetes.io/no-provisioner\n"
    )
    (root / "kind/version").write_text(versions.kubernetes())
