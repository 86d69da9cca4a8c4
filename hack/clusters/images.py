"""Images of Python programs, built without a registry and without a network inside the build.

A Dockerfile starts ``ARG BASE_IMAGE`` / ``FROM ${BASE_IMAGE}``. Python packages are installed on the host,
from the lock file with its hashes, into a directory that the Dockerfile copies.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from clusters import cache, docker, processes, versions
from clusters.engine import Engine
from offline import base_image

# Change it when this module makes another package directory from the same inputs.
REVISION = "1"


def base(engine: Engine) -> str:
    """The tag of the image to build on: the official Python image where it can be pulled, else our own.

    Both have Debian and ``python3`` of the same minor version.
    """
    ours = base_image.tag()
    if engine.has_image(ours):
        return ours
    if engine.can_pull(versions.PYTHON_IMAGE):
        return versions.PYTHON_IMAGE
    base_image.build(engine)
    return ours


def build(tag: str, dockerfile: Path, context: Path, build_args: Mapping[str, str] | None = None) -> str:
    """Build `dockerfile` with the directory `context` as `tag`, and return `tag`.

    The build has no network. It gets the argument BASE_IMAGE (see `base`) and `build_args`. Unchanged steps
    come from the engine's own cache. Raises ClusterError with what the build said when it fails.
    """
    engine = docker.up()
    arguments = {"BASE_IMAGE": base(engine)} | dict(build_args or {})
    command = ["docker", "build", "--network=none", f"--tag={tag}", f"--file={dockerfile}"]
    command += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    with cache.step(f"docker build {tag}"):
        processes.run([*command, context], environment=engine.environment, dies_with_parent=True)
    return tag


def site_packages(requirements_lock: Path) -> Path:
    """A directory with the packages that `requirements_lock` locks, for the path of Python 3.11 on Linux.

    Only wheels are taken, and each is checked against the lock's hashes. It is made once for each content of
    the lock. It has no programs (``bin``), since they would name this machine's Python: use ``python3 -m``.
    """
    inputs = cache.fingerprint(requirements_lock.read_bytes(), versions.PYTHON, platform.machine(), REVISION)
    what = f"installing the packages of {requirements_lock.name}"
    return cache.built(
        "site-packages", "python", inputs, what, lambda path: _install(requirements_lock, path)
    )


def _install(lock: Path, target: Path) -> None:
    platforms = [f"{tag}_{platform.machine()}" for tag in ("manylinux2014", "manylinux_2_28", "linux")]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--no-compile", f"--target={target}"]
    command += ["--implementation=cp", f"--python-version={versions.PYTHON}"]
    command += [f"--platform={name}" for name in platforms]
    processes.run([*command, f"--requirement={lock}"], dies_with_parent=True)
    cache.remove(target / "bin")
