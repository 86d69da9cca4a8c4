"""Debian packages that a step needs, installed where they are missing, and root file systems."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from clusters import cache, processes, versions
from clusters.errors import ClusterError

POLICY = Path("/usr/sbin/policy-rc.d")


def is_root_on_debian() -> bool:
    """Whether packages can be installed here at all."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def find_program(name: str) -> str | None:
    """The path of a program, also where PATH lacks the directories of the administrator's programs."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")


def need(programs: Mapping[str, str]) -> None:
    """See to it that `programs` (program: its Debian package) are there, installing what is missing.

    Nothing that a package installs is started as a service. Raises ClusterError where it cannot be done.
    """
    missing = sorted({package for program, package in programs.items() if find_program(program) is None})
    if not missing:
        return
    names = " ".join(missing)
    if not is_root_on_debian():
        raise ClusterError(f"missing packages: {names}. Install them by hand, or run this as root on Debian")
    with cache.locked("apt"), _services_stay_down(), cache.step(f"apt-get install {names}"):
        _apt_get("update")
        _apt_get("install", "--yes", "--no-install-recommends", *missing)


def mirror() -> str:
    """The package mirror that this machine's own apt is set up with.

    Raises ClusterError when there is none to be found.
    """
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        text = path.read_text()
        if path.suffix == ".sources":
            for stanza in text.split("\n\n"):
                fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
                suites, types = fields.get("Suites", "").split(), fields.get("Types", "").split()
                if versions.DEBIAN in suites and "deb" in types:
                    return str(fields["URIs"].split()[0])
        elif found := re.search(rf"^deb\s+(?:\[.*?\]\s+)?(\S+)\s+{versions.DEBIAN}\s", text, re.MULTILINE):
            return found.group(1)
    raise ClusterError(
        f"no Debian {versions.DEBIAN} mirror in /etc/apt/sources.list or sources.list.d: name one there"
    )


def bootstrap(target: Path, packages: tuple[str, ...]) -> None:
    """Make a minimal Debian with `packages` in the new directory `target`."""
    need({"debootstrap": "debootstrap", "unshare": "util-linux"})
    # In process and mount spaces of its own: when it is killed, so are its children, and its mounts are gone.
    contained = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    include = [f"--include={','.join(packages)}"] if packages else []
    command = [find_program("debootstrap") or "debootstrap", "--variant=minbase", *include]
    processes.run([*contained, *command, versions.DEBIAN, target, mirror()], dies_with_parent=True)


def slim(root: Path) -> None:
    """Remove what an image of `root` does not need: package lists, logs, documentation, the mirror's name."""
    (root / "etc/apt/sources.list").write_text("")
    for pattern in (
        "var/log/*",
        "var/cache/apt/archives/*.deb",
        "var/cache/apt/*.bin",
        "var/lib/apt/lists/*",
        "usr/share/doc/*",
        "usr/share/locale/*",
        "usr/share/man/*",
    ):
        for path in root.glob(pattern):
            cache.remove(path)


def pack(root: Path, archive: Path) -> None:
    """Write the file system `root` to a tar archive, owners and times included."""
    left_out = ["--exclude=./proc/*", "--exclude=./sys/*"]
    processes.run(["tar", "-C", root, "--numeric-owner", *left_out, "-cf", archive, "."])


def _apt_get(*arguments: str) -> None:
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", *arguments]
    processes.run(command, environment=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


@contextlib.contextmanager
def _services_stay_down() -> Iterator[None]:
    """Debian starts the services of new packages unless this script says no; one that is there stays."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
