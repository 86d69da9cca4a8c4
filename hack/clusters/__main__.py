"""The command line: ``PYTHONPATH=hack python -m clusters --help``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clusters import cache, controlplane, docker, images, kindcluster
from clusters.controlplane import ControlPlane
from clusters.errors import ClusterError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Local clusters for tests, built from source. What is slow to build is kept in a cache directory: "
    "$ASYNCFLOW_CACHE, by default ~/.cache/asyncflow.",
)
plane_app = typer.Typer(no_args_is_help=True, help="The control plane of the integration tests, by hand.")
kind_app = typer.Typer(no_args_is_help=True, help="A kind cluster with a real kubelet, for end-to-end tests.")
docker_app = typer.Typer(no_args_is_help=True, help="The Docker engine: yours if it answers, else our own.")
image_app = typer.Typer(no_args_is_help=True, help="Container images, built without a registry.")
app.add_typer(plane_app, name="controlplane")
app.add_typer(kind_app, name="kind")
app.add_typer(docker_app, name="docker")
app.add_typer(image_app, name="image")

Name = Annotated[str, typer.Option(help="The cluster's name; its context is kind-NAME.")]


def _by_hand() -> Path:
    return cache.root() / "controlplane"


@plane_app.command("up")
def controlplane_up(
    nodes: Annotated[int, typer.Option(min=1, help="How many nodes kwok plays.")] = 1,
    qps: Annotated[
        int, typer.Option(min=0, help="The controller-manager's requests a second; 0: its own default, 20.")
    ] = 5000,
    job_syncs: Annotated[
        int, typer.Option(min=0, help="The Job controller's workers; 0: its own default, 5.")
    ] = 0,
) -> None:
    """Start etcd, kube-apiserver, controller-manager, scheduler and kwok, unless they run; say how to use
    them.
    """
    plane = ControlPlane.attach(_by_hand()) or ControlPlane.start(
        _by_hand(),
        nodes=nodes,
        kube_api_qps=qps or None,
        concurrent_job_syncs=job_syncs or None,
        detached=True,
    )
    print(f"export KUBECONFIG={plane.kubeconfig}")


@plane_app.command("down")
def controlplane_down() -> None:
    """Stop it, and remove its data and logs."""
    controlplane.forget(_by_hand())
    cache.remove(_by_hand())


@plane_app.command("status")
def controlplane_status() -> None:
    """Say what runs; exit 1 unless all of it does."""
    plane = ControlPlane.attach(_by_hand())
    if plane is None:
        print("controlplane: not running")
        raise typer.Exit(1)
    print(f"controlplane: {plane.url}, KUBECONFIG={plane.kubeconfig}, logs in {plane.logs}")
    for name, pid in plane.pids.items():
        print(f"  {name}: pid {pid}")


@kind_app.command("up")
def kind_up(
    name: Name = kindcluster.DEFAULT_NAME,
    workers: Annotated[int, typer.Option(min=0, help="Nodes beside the control plane's.")] = 0,
) -> None:
    """Create the cluster, unless it is there and well; say how to use it."""
    cluster = kindcluster.up(name, workers=workers)
    print(f"export KUBECONFIG={cluster.kubeconfig}")


@kind_app.command("down")
def kind_down(name: Name = kindcluster.DEFAULT_NAME) -> None:
    """Delete the cluster; the Docker engine stays."""
    kindcluster.down(name)


@kind_app.command("load")
def kind_load(
    image: Annotated[str, typer.Argument(help="An image that the Docker engine has.")],
    name: Name = kindcluster.DEFAULT_NAME,
) -> None:
    """Make an image known to the cluster's nodes."""
    kindcluster.load_image(name, image)


@docker_app.command("up")
def docker_up() -> None:
    """See to it that a Docker engine answers; say how to use it."""
    engine = docker.up()
    print(
        f"export DOCKER_HOST={engine.host} DOCKER_BUILDKIT=0" if engine.ours else "# Docker answers as it is"
    )


@docker_app.command("down")
def docker_down() -> None:
    """Stop our own engine with all its containers, and put the machine back; yours is left alone."""
    _report(docker.down())


@image_app.command("build")
def image_build(
    tag: Annotated[str, typer.Argument(help="The image's name and tag.")],
    context: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The build's directory.")],
    dockerfile: Annotated[Path | None, typer.Option(help="By default CONTEXT/Dockerfile.")] = None,
) -> None:
    """Build an image of a Python program; its Dockerfile starts from ${BASE_IMAGE}."""
    print(images.build(tag, dockerfile or context / "Dockerfile", context))


@app.command("status")
def status() -> None:
    """Say what runs."""
    plane = ControlPlane.attach(_by_hand())
    print(f"controlplane: {plane.url if plane else 'not running'}")
    print(docker.status())
    print(f"kind: {', '.join(kindcluster.names()) or 'no cluster of ours'}")


@app.command("down")
def down() -> None:
    """Remove all that was started here: control planes, also those of running tests, kind clusters, our own
    Docker.
    """
    controlplane.clean_up_everything()
    cache.remove(_by_hand())
    for name in kindcluster.names():
        kindcluster.down(name)
    remains = docker.down()
    kindcluster.forget_gone()
    _report(remains)


def _report(remains: list[str]) -> None:
    """Say what a stopped engine left, and exit 1 if that is anything."""
    for line in remains:
        cache.say(f"  {line}")
    if remains:
        raise ClusterError(f"the machine is not as it was before ({len(remains)} differences, see above)")


def main() -> None:
    """Run the command line; a ClusterError ends it with its message and exit code 1."""
    try:
        app()
    except ClusterError as error:
        cache.say(f"error: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
