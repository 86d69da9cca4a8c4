"""The cache directory: what is slow to build is built once, and again when its inputs change."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from clusters.errors import ClusterError

HEARTBEAT_SECONDS = 15.0
LOCK_SECONDS = 3600.0

# Of each thing this many stay, so that two work trees with different locks do not undo each other's builds.
VERSIONS_KEPT = 2


def root() -> Path:
    """The cache directory, which exists: ``$ASYNCFLOW_CACHE``, or ``asyncflow`` in ``$XDG_CACHE_HOME``."""
    named = os.environ.get("ASYNCFLOW_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(named) if named else base / "asyncflow"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def say(text: str) -> None:
    """Print one line of progress to standard error, which leaves standard output to results."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, every 15 s that it still is, and at the end how long it took."""
    started = time.monotonic()
    finished = threading.Event()

    def heartbeat() -> None:
        while not finished.wait(HEARTBEAT_SECONDS):
            say(f"  … {what}: {time.monotonic() - started:.0f} s so far")

    say(f"• {what}")
    ticker = threading.Thread(target=heartbeat, daemon=True)
    ticker.start()
    try:
        yield
    except BaseException:
        say(f"✗ {what}: failed after {time.monotonic() - started:.1f} s")
        raise
    else:
        say(f"✓ {what}: {time.monotonic() - started:.1f} s")
    finally:
        finished.set()
        ticker.join()


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` among all processes that share this cache; says so when it has to wait.

    The kernel drops the lock with its holder, so a killed run blocks nobody. Raises ClusterError when another
    run holds it for an hour.
    """
    path = root() / "locks" / f"{name}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as handle:
        if not _try_lock(handle):
            with step(f"waiting for another run that holds {path}"):
                limit = time.monotonic() + LOCK_SECONDS
                while not _try_lock(handle):
                    if time.monotonic() > limit:
                        raise ClusterError(f"another run has held {path} for an hour")
                    time.sleep(0.2)
        yield


def _try_lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def fingerprint(*parts: str | bytes | Path) -> str:
    """A short hash of `parts`, in order; of a file by content, of a directory by names and contents."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
            for file in files:
                digest.update(f"{file.relative_to(part)}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
        else:
            digest.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:16]


def built(kind: str, name: str, inputs: str, what: str, build: Callable[[Path], None]) -> Path:
    """The thing ``<cache>/<kind>/<name>-<inputs>``, made by `build` unless it is there already.

    `build` gets a temporary path beside it, as a name for a file or a directory to make; the result gets its
    name only when `build` has returned, so that a run killed half-way leaves nothing that looks whole. What
    such a run left, and versions older than the newest two, are removed. Only one process builds at a time.
    """
    directory = root() / kind
    target = directory / f"{name}-{inputs}"
    if not target.exists():
        with locked(f"{kind}-{name}"):
            if not target.exists():
                directory.mkdir(exist_ok=True)
                for leftover in directory.glob(f"{name}-*.partial"):
                    remove(leftover)
                partial = directory / f"{name}-{inputs}.partial"
                with step(what):
                    build(partial)
                partial.rename(target)
                forget_old_versions(directory, name)
    os.utime(target)
    return target


def forget_old_versions(directory: Path, name: str) -> None:
    """Remove all but the most recently used versions of `name`, which are called ``<name>-<fingerprint>``."""
    length = len(fingerprint())
    versions = [p for p in directory.glob(f"{name}-*") if len(p.name) == len(name) + 1 + length]
    for old in sorted(versions, key=lambda p: p.stat().st_mtime)[:-VERSIONS_KEPT]:
        remove(old)


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """An empty directory for intermediate files; a killed run's is removed when `name` is next asked for.

    The caller holds a lock under which nobody else uses `name`.
    """
    path = root() / "scratch" / name
    remove(path)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        remove(path)


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all; its directory is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.rename(path)


def remove(path: Path) -> None:
    """Remove a file or a directory tree; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
