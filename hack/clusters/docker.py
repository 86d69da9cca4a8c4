"""The Docker engine to use: the one that answers, else our own, which `offline.dockerd` starts and stops."""

from __future__ import annotations

import contextlib
import shutil

from clusters import cache
from clusters.engine import Engine
from clusters.errors import ClusterError
from offline import dockerd, fence


def find() -> Engine | None:
    """The engine that the environment names, else our own; None when neither answers."""
    if shutil.which("docker") is None:
        return None
    for engine in (Engine(None), dockerd.engine()):
        with contextlib.suppress(ClusterError):
            engine.version()
            return engine
    return None


def up() -> Engine:
    """An engine that answers: the one that is there, or our own, started now.

    Raises ClusterError where there is none and none can be started, with the reason.
    """
    with cache.locked("docker"):
        engine = find()
        if engine is None:
            engine = dockerd.start()
        if engine.ours:
            fence.put_up()
        return engine


def down() -> list[str]:
    """Stop our own engine, if there is one, and put the machine back; an engine of the user is left alone.

    Returns what still differs from before, a line each.
    """
    with cache.locked("docker"):
        return dockerd.stop()


def status() -> str:
    """One line on which engine there is."""
    engine = find()
    if engine is None:
        return "docker: none answers"
    return f"docker: {'our own' if engine.ours else 'the one of this machine'}, {engine.version()}"
