"""A Docker engine that answers, by its address; and the networks that kind makes on it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from clusters import cache, processes
from clusters.errors import ClusterError

# kind's own defaults.
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers. `host` is its address, None for the one that the environment names."""

    host: str | None

    @property
    def ours(self) -> bool:
        """Whether it is the one that we start and stop."""
        return self.host is not None

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which the docker command line, and kind, find this engine."""
        environment = dict(os.environ)
        if self.host is not None:
            # The engine that Debian has knows the classic builder; the command line may lack the other one.
            environment |= {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"}
            environment.pop("DOCKER_CONTEXT", None)
        return environment

    def run(self, *arguments: str, stdin: str | Path | None = None) -> str:
        """The output of a docker command, which may read text or a file. ClusterError when it fails."""
        return processes.run(["docker", *arguments], stdin=stdin, environment=self.environment).strip()

    def version(self) -> str:
        """The engine's version. ClusterError when it does not answer."""
        return self.run("version", "--format", "{{.Server.Version}}")

    def has_image(self, tag: str) -> bool:
        return bool(self.run("image", "ls", "--quiet", tag))

    def can_pull(self, image: str) -> bool:
        """Whether `image` is there or can be pulled. Our own engine is fenced in and is not even asked to."""
        if self.has_image(image):
            return True
        if self.ours:
            return False
        with contextlib.suppress(ClusterError), cache.step(f"docker pull {image}"):
            self.run("pull", "--quiet", image)
            return True
        return False
