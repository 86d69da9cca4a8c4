"""The images of the control plane that a node image brings along, written without an engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from clusters import processes, versions
from clusters.errors import ClusterError
from offline.archives import Image
from offline.node_rootfs import CONTAINERD_CONFIG, kind_files

BINARIES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "etcd",
    "coredns",
    "pause",
)

# What kube-proxy calls: it sets packet filter rules through these programs.
PROXY_PROGRAMS = (
    "usr/sbin/xtables-legacy-multi",
    "usr/sbin/xtables-nft-multi",
    "usr/sbin/nft",
    "usr/sbin/conntrack",
)


def images(binaries: dict[str, Path], rootfs: Path, scratch: Path) -> Iterator[Image]:
    """The images that kubeadm, of this version, and kind's containerd configuration ask for."""
    wanted = {}
    listing = ["config", "images", "list", f"--kubernetes-version={versions.kubernetes()}"]
    for tag in processes.run([binaries["kubeadm"], *listing]).split():
        wanted[tag.rpartition("/")[2].partition(":")[0]] = tag
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"):
        yield Image(wanted[name], {f"/usr/local/bin/{name}": binaries[name]})
    yield Image(wanted["coredns"], {"/coredns": binaries["coredns"]}, entrypoint=["/coredns"])
    for tag in sorted({wanted["pause"], _sandbox_image(kind_files() / CONTAINERD_CONFIG)}):
        yield Image(tag, {"/pause": binaries["pause"]}, entrypoint=["/pause"])
    yield _proxy_image(wanted["kube-proxy"], binaries["kube-proxy"], rootfs, scratch / "proxy")


def _proxy_image(tag: str, binary: Path, rootfs: Path, root: Path) -> Image:
    """kube-proxy with the packet filter's programs and all libraries that these load, taken from `rootfs`."""
    root.mkdir()
    processes.run(["tar", "-C", root, "-xf", rootfs, "./usr", "./etc/alternatives"])
    for name in ("lib", "lib64", "bin", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    extensions = sorted((root / "usr/lib").glob("*/xtables/*.so"))
    programs = [root / name for name in (*PROXY_PROGRAMS, "usr/bin/dash", "usr/bin/kmod")]
    files = {f"/{path.relative_to(root)}": path for path in (*programs, *extensions)}
    # iptables' programs are links to one binary; a missing library would make rules fail without a word.
    links = {f"/{name}": f"usr/{name}" for name in ("lib", "lib64", "bin", "sbin")}
    links |= {"/usr/bin/sh": "dash", "/usr/sbin/modprobe": "../bin/kmod"}
    for path in [*(root / "usr/sbin").glob("*tables*"), *(root / "etc/alternatives").glob("*tables*")]:
        if path.is_symlink():
            links[f"/{path.relative_to(root)}"] = str(path.readlink())
    for library in _libraries(root, [f"/{path.relative_to(root)}" for path in (*programs, *extensions)]):
        real = (root / library.lstrip("/")).resolve()
        name = re.sub(r"^/lib", "/usr/lib", library)
        files[name] = real
    files["/usr/local/bin/kube-proxy"] = binary
    directories = ("/tmp", "/etc", "/run", "/proc", "/sys", "/dev", "/var")
    return Image(tag, files, directories, links, path="/usr/local/bin:/usr/sbin:/usr/bin")


def _libraries(root: Path, programs: list[str]) -> set[str]:
    """The shared libraries that `programs`, paths in `root`, need; as ldd in `root` names them."""
    found: set[str] = set()
    for program in programs:
        listing = processes.run(["chroot", root, "ldd", program])
        if "not found" in listing:
            raise ClusterError(f"{program} in the nodes' Debian lacks a library:\n{listing}")
        found |= set(re.findall(r"(/\S+\.so\S*) \(", listing))
    return found


def _sandbox_image(config: Path) -> str:
    found = re.search(r'sandbox_image = "(\S+)"', config.read_text())
    if found is None:
        raise ClusterError(f"{config} names no sandbox_image: look how kind now sets containerd's sandbox")
    return found.group(1)
