"""A control plane for measuring, and the operator on it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from clusters.controlplane import ControlPlane
from support.admin_api import JOBS, PODS, TASKS, AdminApi
from support.operator_process import OperatorProcess, install, kubeconfig_of_operator

ROOT = Path(__file__).parents[2]
OPERATOR = "asyncflow"
READY_SECONDS = 300
LOOK_EVERY = 0.25
"""Seconds between two looks whether all is deleted."""


@dataclass(frozen=True)
class Bench:
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
    async def start(cls, directory: Path, *, kube_api_qps: int | None) -> AsyncIterator["Bench"]:
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

    def new_operator(self) -> OperatorProcess:
        """Return an operator with its own defaults, which does not run yet."""
        return OperatorProcess(
            self.kubeconfig,
            self.log,
            leading={"ASYNCFLOW_LEASE_NAMESPACE": "asyncflow-system"},
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
            process.wait_ready(READY_SECONDS)
            yield {**self.control_plane.pids, OPERATOR: process.pid}
        finally:
            process.stop()


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float, every: float = 0.1) -> None:
    """Ask again and again until it is so.

    Raises:
        TimeoutError: it is not so after so many seconds.
    """
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # the API server is asked, nothing tells
            await asyncio.sleep(every)


def patience(objects: int) -> float:
    """Return after how many seconds a run of so many objects is given up."""
    return 60 + 2.0 * objects


async def clean_up(api: AdminApi, paths: Iterable[str], namespace: str, *, seconds: float) -> None:
    """Delete all objects of some kinds as a person would, and wait until nothing is left of them.

    Raises:
        TimeoutError: something is left after so many seconds.
    """
    options = {"kind": "DeleteOptions", "propagationPolicy": "Background"}
    for path in paths:
        await api.send("DELETE", path.format(namespace), options)
    for resource in (TASKS, JOBS, PODS):
        await until(partial(api.is_empty, resource.format(namespace)), seconds=seconds, every=LOOK_EVERY)
