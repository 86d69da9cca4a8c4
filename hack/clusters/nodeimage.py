"""The image of kind's nodes: pulled where a registry answers, else built from Debian packages and Go modules.

What is built is what kind's own base image holds, as far as a cluster needs it: Debian with systemd,
containerd, the kubelet, kind's entry point and units (taken from kind's Go module), and the images of the
control plane, preloaded.
"""

from __future__ import annotations

import contextlib
import json
import platform
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clusters import archives, cache, debian, gobuild, processes, versions
from clusters.archives import Image
from clusters.docker import Engine
from clusters.errors import ClusterError

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

NODE_BINARIES = {
    "containerd": "/usr/local/bin/",
    "containerd-shim-runc-v2": "/usr/local/bin/",
    "ctr": "/usr/local/bin/",
    "crictl": "/usr/local/bin/",
    "kubelet": "/usr/bin/",
    "kubeadm": "/usr/bin/",
    "kubectl": "/usr/bin/",
}
IMAGE_BINARIES = (
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

CONTAINERD_CONFIG = "etc/containerd/config.toml"

# Change it when this module builds another image from the same inputs.
REVISION = "1"


@dataclass(frozen=True)
class NodeImage:
    """An image for kind's nodes; `has_network` tells whether it brings kind's own pod network."""

    tag: str
    has_network: bool


def ensure(engine: Engine) -> NodeImage:
    """The node image, pulled or built unless it is there."""
    binaries = gobuild.identity(*NODE_BINARIES, *IMAGE_BINARIES)
    identity = cache.fingerprint(_rootfs_inputs(), binaries, REVISION)
    tag = f"asyncflow/node:{versions.kubernetes()}-{identity}"
    if not engine.has_image(tag):
        published = f"kindest/node:{versions.kubernetes()}"
        if engine.can_pull(published):
            return NodeImage(published, has_network=True)
        with cache.locked("nodeimage"):
            if not engine.has_image(tag):
                _build(engine, tag)
    return NodeImage(tag, has_network=False)


def _build(engine: Engine, tag: str) -> None:
    binaries = gobuild.binaries(*NODE_BINARIES, *IMAGE_BINARIES)
    rootfs = cache.built("rootfs", "node", _rootfs_inputs(), "the nodes' Debian", _make_rootfs)
    with cache.step(f"building the node image {tag}"), cache.scratch("nodeimage") as scratch:
        preloaded = scratch / "images.tar"
        archives.write(list(_images(binaries, rootfs, scratch)), preloaded)
        base = f"{tag}-base"
        engine.run("import", "-", base, stdin=rootfs)
        builder = "asyncflow-node-builder"
        with contextlib.suppress(ClusterError):
            engine.run("container", "rm", "--force", "--volumes", builder)
        started = ["--detach", "--network=none", "--security-opt=seccomp=unconfined", "--entrypoint=sleep"]
        engine.run("run", *started, f"--name={builder}", base, "infinity")
        try:
            _install(engine, builder, binaries, scratch)
            _preload(engine, builder, preloaded)
            entrypoint = json.dumps(["/usr/local/bin/entrypoint", "/sbin/init"])
            changes = [f"--change=ENTRYPOINT {entrypoint}", "--change=ENV container=docker"]
            engine.run("commit", *changes, builder, tag)
        finally:
            engine.run("container", "rm", "--force", "--volumes", builder)
        engine.run("image", "rm", base)  # only its name: its layers are the image's too
        if engine.ours:
            _forget_others(engine, tag)


def _forget_others(engine: Engine, tag: str) -> None:
    """Remove node images that were built from other inputs, where nothing uses them."""
    repository = tag.partition(":")[0]
    for other in engine.run("image", "ls", "--format={{.Repository}}:{{.Tag}}", repository).split():
        if other != tag:
            with contextlib.suppress(ClusterError):
                engine.run("image", "rm", other)


def _install(engine: Engine, builder: str, binaries: dict[str, Path], scratch: Path) -> None:
    """Copy our binaries into the container, and write what is derived from them."""
    for name, directory in NODE_BINARIES.items():
        engine.run("cp", str(binaries[name]), f"{builder}:{directory}{name}")
    spec = json.loads(engine.run("exec", builder, "ctr", "oci", "spec"))
    spec["process"].pop("rlimits", None)
    spec.setdefault("hooks", {})["createContainer"] = [{"path": "/kind/bin/mount-product-files.sh"}]
    base_spec = scratch / "cri-base.json"
    base_spec.write_text(json.dumps(spec))
    base_spec.chmod(0o644)
    engine.run("cp", str(base_spec), f"{builder}:/etc/containerd/cri-base.json")


def _preload(engine: Engine, builder: str, archive: Path) -> None:
    """Import the control plane's images into the container's containerd."""
    pid_file = "/run/containerd.pid"
    engine.run("exec", "--detach", builder, "sh", "-c", f"echo $$ > {pid_file}; exec containerd")
    limit = time.monotonic() + 30
    while True:
        with contextlib.suppress(ClusterError):
            engine.run("exec", builder, "ctr", "info")
            break
        if time.monotonic() > limit:
            raise ClusterError(f"containerd in the container {builder} did not answer within 30 s")
        time.sleep(0.2)
    pinned = ["--label=io.cri-containerd.pinned=pinned", "--all-platforms", "--no-unpack", "--digests"]
    ctr = ["exec", "--interactive", builder, "ctr", "--namespace=k8s.io"]
    engine.run(*ctr, "images", "import", *pinned, "-", stdin=archive)
    # Its database is whole only when it has ended.
    stop = f"pid=$(cat {pid_file}); kill $pid; for i in $(seq 100); do [ -d /proc/$pid ] || exit 0; sleep 0.1"
    engine.run("exec", builder, "sh", "-c", f"{stop}; done; exit 1")
    engine.run("exec", builder, "rm", pid_file)


def _images(binaries: dict[str, Path], rootfs: Path, scratch: Path) -> Iterator[Image]:
    """The images that kubeadm, of this version, and kind's containerd configuration ask for."""
    wanted = {}
    listing = ["config", "images", "list", f"--kubernetes-version={versions.kubernetes()}"]
    for tag in processes.run([binaries["kubeadm"], *listing]).split():
        wanted[tag.rpartition("/")[2].partition(":")[0]] = tag
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"):
        yield Image(wanted[name], {f"/usr/local/bin/{name}": binaries[name]})
    yield Image(wanted["coredns"], {"/coredns": binaries["coredns"]}, entrypoint=["/coredns"])
    for tag in sorted({wanted["pause"], _sandbox_image(_kind_files() / CONTAINERD_CONFIG)}):
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


def _rootfs_inputs() -> str:
    pinned = (versions.DEBIAN, versions.kind(), versions.kubernetes())
    return cache.fingerprint(*pinned, ",".join(PACKAGES), platform.machine(), REVISION)


def _kind_files() -> Path:
    """The files that kind lays over Debian for its base image, by their path there."""
    files = gobuild.module_directory("kind", "sigs.k8s.io/kind") / "images/base/files"
    if not files.is_dir():
        raise ClusterError(f"{files} is missing: kind's module no longer holds the files of its base image")
    return files


def _sandbox_image(config: Path) -> str:
    found = re.search(r'sandbox_image = "(\S+)"', config.read_text())
    if found is None:
        raise ClusterError(f"{config} names no sandbox_image: look how kind now sets containerd's sandbox")
    return found.group(1)


def _make_rootfs(archive: Path) -> None:
    with cache.scratch("node-rootfs") as scratch:
        root = scratch / "root"
        debian.bootstrap(root, tuple(PACKAGES))
        _configure(root)
        debian.slim(root)
        debian.pack(root, archive)


def _configure(root: Path) -> None:
    """Lay kind's files over a plain Debian, and switch off what makes no sense in a container."""
    files = _kind_files()
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
