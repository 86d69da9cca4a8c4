"""The image of kind's nodes, built from Debian packages and Go modules.

It holds what kind's own base image holds, as far as a cluster needs it: Debian with systemd, containerd, the
kubelet, kind's entry point and units (taken from kind's Go module), and the images of the control plane,
preloaded.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from clusters import cache, gobuild, versions
from clusters.engine import Engine
from clusters.errors import ClusterError
from offline import archives, node_rootfs, preloaded_images

NODE_BINARIES = {
    "containerd": "/usr/local/bin/",
    "containerd-shim-runc-v2": "/usr/local/bin/",
    "ctr": "/usr/local/bin/",
    "crictl": "/usr/local/bin/",
    "kubelet": "/usr/bin/",
    "kubeadm": "/usr/bin/",
    "kubectl": "/usr/bin/",
}


def tag() -> str:
    """The image's tag, which names what it is built from; known without building it."""
    binaries = gobuild.identity(*NODE_BINARIES, *preloaded_images.BINARIES)
    identity = cache.fingerprint(node_rootfs.inputs(), binaries, node_rootfs.REVISION)
    return f"asyncflow/node:{versions.kubernetes()}-{identity}"


def build(engine: Engine) -> None:
    """Build the image `tag`, unless the engine has it. Only one process builds at a time."""
    with cache.locked("nodeimage"):
        if not engine.has_image(tag()):
            _build(engine, tag())


def _build(engine: Engine, tag: str) -> None:
    binaries = gobuild.binaries(*NODE_BINARIES, *preloaded_images.BINARIES)
    rootfs = node_rootfs.archive()
    with cache.step(f"building the node image {tag}"), cache.scratch("nodeimage") as scratch:
        preloaded = scratch / "images.tar"
        archives.write(list(preloaded_images.images(binaries, rootfs, scratch)), preloaded)
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
