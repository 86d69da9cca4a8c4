"""Entry point of ``python -m project``, used by the Makefile."""

import sys

import typer
from rich.console import Console

from clusters.errors import ClusterError
from project import demo, image
from project.install import remove

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Run asyncflow in a local cluster.")


@app.command("image")
def build_image() -> None:
    """Build the operator's image."""
    image.build_operator()


@app.command("demo")
def run_demo() -> None:
    """Run the demo on a kind cluster of its own. Exits with 1 if an order has an unexpected result."""
    sys.exit(1 if demo.run(Console()) else 0)


@app.command("demo-down")
def end_demo() -> None:
    """Remove the cluster of the demo, and the Docker engine if the demo started it and no cluster uses it."""
    remove(demo.CLUSTER)


def main() -> None:
    """Run a command; print an expected error as one line instead of a traceback."""
    try:
        app()
    except ClusterError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
