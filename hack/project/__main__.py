"""``python -m project``: what the Makefile calls."""

import sys

import typer
from rich.console import Console

from clusters.errors import ClusterError
from project import demo, image
from project.install import remove

app = typer.Typer(no_args_is_help=True, add_completion=False, help="asyncflow in a local cluster.")


@app.command("image")
def build_image() -> None:
    """Build the operator's image."""
    image.build_operator()


@app.command("demo")
def run_demo() -> None:
    """Run the demo on a kind cluster of its own; fail unless every order came out as it must."""
    sys.exit(1 if demo.run(Console()) else 0)


@app.command("demo-down")
def end_demo() -> None:
    """Remove the demo's cluster, and the Docker engine if it is ours and no other cluster needs it."""
    remove(demo.CLUSTER)


def main() -> None:
    """Run a command; an error that has a remedy is a line, not a traceback."""
    try:
        app()
    except ClusterError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
