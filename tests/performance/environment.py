"""A control plane for measuring, and the operator on it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from clusters.controlplane import ControlPlane
from performance.progress import LIMIT_SECONDS, patience, until
from support.admin_api import JOBS, PODS, TASKS, AdminApi
from support.operator_process import ROOT, OperatorProcess, install, kubeconfig_of_operator

OPERATOR = "asyncflow"
DEFAULTS = {"ASYNCFLOW_LEASE_NAMESPACE": "asyncflow-system"}
"""The settings without which the operator does not run: all else is as it comes."""
TUNED_QPS = 5000
"""Requests a second that the controller-manager allows itself where it should not be the limit."""
POLL_SECONDS = 0.25
"""Between two looks whether all is deleted."""


@dataclass(frozen=True)
class Environment:
    """One control plane, and how to get there."""

    control_plane: ControlPlane
    api: AdminApi
    kubeconfig: Path
    """The operator's, with its real rights."""
    log: Path
    tree: Path = ROOT
    """Whose operator is measured."""

    @classmethod
    @asynccontextmanager
    async def start(
        cls, directory: Path, *, kube_api_qps: int | None = TUNED_QPS
    ) -> AsyncIterator["Environment"]:
        """Start a control plane with the operator's CRDs and rights; stop it in the end.

        Args:
            directory: where its files are.
            kube_api_qps: the controller-manager's limit of requests a second; None leaves its own, 20.
        """
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        with ControlPlane.start(directory / "control-plane", kube_api_qps=kube_api_qps) as control_plane:
            install(control_plane)
            kubeconfig = kubeconfig_of_operator(control_plane, directory / "operator.kubeconfig")
            async with AdminApi(control_plane) as api:
                yield cls(control_plane, api, kubeconfig, directory / "operator.log")

    async def new_namespace(self) -> str:
        """Make a namespace that nobody has used; return its name."""
        name = f"bench-{uuid4().hex[:8]}"
        await self.api.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def new_operator(self, settings: Mapping[str, str] = DEFAULTS) -> OperatorProcess:
        """Return an operator that nobody has known before and that does not run yet."""
        return OperatorProcess(
            self.kubeconfig,
            self.log,
            leading=settings,
            tree=self.tree,
            ASYNCFLOW_IDENTITY=f"bench-{uuid4().hex[:8]}",
        )

    @contextmanager
    def operator(self, *, needed: bool = True) -> Iterator[dict[str, int]]:
        """Run the operator, if it is needed; yield the process ids of all that runs, by name."""
        if not needed:
            yield self.control_plane.pids
            return
        process = self.new_operator()
        process.start(wait=False)
        try:
            process.wait_ready(LIMIT_SECONDS)
            yield {**self.control_plane.pids, OPERATOR: process.pid}
        finally:
            process.stop()

    async def clean_up(self, namespace: str, *paths: str, objects: int) -> None:
        """Delete all of these collections as a person would, and wait until no task, Job or pod is left.

        Args:
            namespace: where they are.
            paths: the collections, each with a place for the namespace.
            objects: about how many there are: the more, the longer is waited.

        Raises:
            TimeoutError: something is left.
        """
        options = {"kind": "DeleteOptions", "propagationPolicy": "Background"}
        for path in paths:
            await self.api.send("DELETE", path.format(namespace), options)
        for path in (TASKS, JOBS, PODS):
            is_empty = partial(self.api.is_empty, path.format(namespace))
            await until(is_empty, seconds=patience(objects), every=POLL_SECONDS)
