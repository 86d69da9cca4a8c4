"""The commands of ``asyncflow``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from pydantic import ValidationError
from rich.console import Console
from urllib3.exceptions import HTTPError

from asyncflow import __version__
from asyncflow.api.asynctask import Phase
from asyncflow.api.crds import manifests
from asyncflow.cli import watch as watching
from asyncflow.cli.reference import pages
from asyncflow.kube.connection import ConnectionFailed, connect
from asyncflow.logs import configure_logging
from asyncflow.settings import Settings

app = typer.Typer(
    name="asyncflow",
    help="Asynchronous tasks on Kubernetes: Jobs with hard deadlines, retry budgets and leases.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


Kubeconfig = Annotated[
    str | None,
    typer.Option(
        help="Path of the kubeconfig. By default, the ServiceAccount when run in a pod, else $KUBECONFIG or "
        "~/.kube/config."
    ),
]
ClientKubeconfig = Annotated[
    str | None, typer.Option(help="Path of the kubeconfig. By default, $KUBECONFIG or ~/.kube/config.")
]
Context = Annotated[
    str | None, typer.Option(help="Context in the kubeconfig. By default, its current context.")
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the tasks.")]


@app.command()
def run(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Namespace to serve. Can be repeated. By default, all namespaces are served."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Number of tasks reconciled concurrently, from 1 to 256. Defaults to 16."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port that serves /healthz and /readyz. Defaults to 8080.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="Log level: debug, info, warning or error. Defaults to info.")
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(help="Log format: text, or json (one object per line). Defaults to text."),
    ] = None,
) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Every option except --kubeconfig and --context can also be set by an environment variable with the prefix
    ASYNCFLOW_, such as ASYNCFLOW_WORKERS; namespaces by ASYNCFLOW_NAMESPACES, a JSON list. Options take
    precedence.
    """
    options: dict[str, Any] = {
        "namespaces": tuple(namespace) if namespace else None,
        "workers": workers,
        "port": port,
        "log_level": log_level,
        "log_format": log_format,
    }
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
        configure_logging(settings.log_level, settings.log_format)
        connection = connect(kubeconfig_file=kubeconfig, context=context)
    except ValidationError as error:
        for problem in error.errors():
            setting = "".join(f"{part}: " for part in problem["loc"])  # empty if several settings conflict
            message = problem["msg"].removeprefix("Value error, ")
            typer.echo(f"asyncflow: invalid settings: {setting}{message}", err=True)
        sys.exit(2)
    except ConnectionFailed as error:
        typer.echo(f"asyncflow: {error}", err=True)
        sys.exit(2)
    from asyncflow.main import run as run_operator  # the other commands need neither kopf nor uvloop

    run_operator(connection, settings)


@app.command()
def crds(
    directory: Annotated[
        Path | None,
        typer.Argument(help="Directory to write the files to. By default, they are printed."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit with 1 if a file differs from the models."),
    ] = False,
) -> None:
    """Print the CustomResourceDefinitions and the admission policy, or write them to a directory."""
    if directory is None:
        typer.echo("---\n".join(manifests().values()), nl=False)
        return
    _generate(manifests(), directory, check=check)


@app.command(hidden=True)
def reference(
    directory: Annotated[Path, typer.Argument(help="Directory to write the pages to.")],
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; exit with 1 if a page differs from the models."),
    ] = False,
) -> None:
    """Write the generated reference pages of the documentation."""
    _generate(pages(), directory, check=check)


def _generate(files: dict[str, str], directory: Path, *, check: bool) -> None:
    """Write the generated files that have changed; as a check only exit with 1 if there are any."""
    stale = [name for name, text in files.items() if _text(directory / name) != text]
    if check:
        for name in stale:
            typer.echo(
                f"{directory / name} is out of date: run `make manifests` and commit the result", err=True
            )
        sys.exit(1 if stale else 0)
    directory.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (directory / name).write_text(files[name])
        typer.echo(f"wrote {directory / name}")


@app.command()
def watch(
    type_name: Annotated[
        str, typer.Argument(metavar="TASKTYPE", help="Name of the TaskType whose tasks to watch.")
    ],
    namespace: Namespace = "default",
    kubeconfig: ClientKubeconfig = None,
    context: Context = None,
) -> None:
    """Show the progress of the tasks of a type until all have finished, then a summary of the failures.

    Exits with 0 if all tasks succeeded, with 1 if a task failed or was cancelled, with 2 on an error.
    """
    console = Console()
    with _client_errors():
        progress = watching.watch_type(watching.tasks_api(kubeconfig, context), namespace, type_name, console)
        console.print(watching.phase_table(progress))
        problems = watching.error_table(progress)
        if problems is not None:
            console.print(problems)
        sys.exit(0 if progress.counts[Phase.SUCCEEDED] == len(progress.tasks) else 1)


@app.command()
def history(
    name: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.")],
    namespace: Namespace = "default",
    kubeconfig: ClientKubeconfig = None,
    context: Context = None,
) -> None:
    """Show the attempts of a task: Job, start, end, outcome, exit code, reason and proof of death."""
    console = Console()
    with _client_errors():
        task = watching.read_task(watching.tasks_api(kubeconfig, context), namespace, name)
        console.print(watching.history_table(task))
        if task.status.message:
            console.print(task.status.message)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@contextmanager
def _client_errors() -> Iterator[None]:
    """Print an expected error as one line instead of a traceback, and exit with 2."""
    try:
        yield
    except watching.NotFound as error:
        message = str(error)
    except ConfigException as error:
        message = (
            f"{error} Specify a kubeconfig with --kubeconfig or KUBECONFIG, and a context in it with "
            "--context"
        )
    except ApiException as error:
        message = f"the API server returned an error: {error.status} {error.reason}"
    except HTTPError as error:
        message = f"failed to connect to the API server: {error}"
    else:
        return
    typer.echo(f"asyncflow: {message}", err=True)
    sys.exit(2)


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
