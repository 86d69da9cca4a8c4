"""The base of images of Python programs, made by debootstrap where the official one cannot be pulled."""

from __future__ import annotations

import platform
from pathlib import Path

from clusters import cache, versions
from clusters.engine import Engine
from offline import debian

PACKAGES = ("ca-certificates", "python3")

# Change it when this module makes another image from the same inputs.
REVISION = "1"


def tag() -> str:
    """The image's tag, which names what it is made of."""
    return f"asyncflow/base:{_inputs()}"


def build(engine: Engine) -> None:
    """Make the image `tag`."""
    with cache.locked("base-image"):
        archive = cache.built("rootfs", "base", _inputs(), "the base image's Debian", _make_rootfs)
        with cache.step(f"importing {tag()}"):
            path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            changes = [f"--change=ENV PATH={path}", "--change=ENV LANG=C.UTF-8"]
            engine.run("import", *changes, "-", tag(), stdin=archive)


def _inputs() -> str:
    return cache.fingerprint(versions.DEBIAN, ",".join(PACKAGES), platform.machine(), REVISION)


def _make_rootfs(archive: Path) -> None:
    with cache.scratch("base-rootfs") as scratch:
        root = scratch / "root"
        debian.bootstrap(root, PACKAGES)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        debian.slim(root)
        debian.pack(root, archive)
