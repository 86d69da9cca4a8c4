"""kubectl as administrator of one of our clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clusters import processes

# `kubectl wait` has limits of its own.
LIMIT_SECONDS = 600.0


@dataclass(frozen=True)
class Kubectl:
    """Call it with kubectl's arguments. It touches neither ~/.kube/config nor kubectl's usual cache."""

    binary: Path
    kubeconfig: Path
    environment: Mapping[str, str] | None = None

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl wrote to standard output. Raises ClusterError with what it said when it fails."""
        cache = self.kubeconfig.with_name("kubectl-cache")
        command: list[str | Path] = [
            self.binary,
            f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={cache}",
            *arguments,
        ]
        return processes.run(command, stdin=stdin, environment=self.environment, limit_seconds=LIMIT_SECONDS)
