"""The command line."""

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
    str | None, typer.Option(help="A kubeconfig to use; by default a pod's service account, else KUBECONFIG.")
]
Context = Annotated[str | None, typer.Option(help="The context in the kubeconfig.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The namespace of the tasks.")]


@app.command()
def run(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        list[str] | None, typer.Option(help="Serve only this namespace; may be given more than once.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="How many tasks are worked on at the same time (16).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Where /healthz and /readyz are served (8080).")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error (info).")] = None,
    log_format: Annotated[str | None, typer.Option(help="text, or json: one object a line (text).")] = None,
) -> None:
    """Run the operator until SIGTERM or Ctrl-C.

    Each but --kubeconfig and --context can be given as an environment variable too, such as
    ASYNCFLOW_WORKERS; the option wins.
    """
    given: dict[str, Any] = {
        "namespaces": tuple(namespace) if namespace else None,
        "workers": workers,
        "port": port,
        "log_level": log_level,
        "log_format": log_format,
    }
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
        configure_logging(settings.log_level, settings.log_format)
        connection = connect(kubeconfig_file=kubeconfig, context=context)
    except ValidationError as error:
        for problem in error.errors():
            typer.echo(f"asyncflow: setting {'.'.join(map(str, problem['loc']))}: {problem['msg']}", err=True)
        sys.exit(2)
    except ConnectionFailed as error:
        typer.echo(f"asyncflow: {error}", err=True)
        sys.exit(2)
    from asyncflow.main import run as run_operator  # kopf and uvloop are not needed for anything else

    run_operator(connection, settings)


@app.command()
def crds(
    directory: Annotated[
        Path | None, typer.Argument(help="Write one file each into this directory instead of printing.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Write nothing; fail if the directory's files differ from the models."),
    ] = False,
) -> None:
    """Print or write the CustomResourceDefinitions and the admission policy."""
    if directory is None:
        typer.echo("---\n".join(manifests().values()), nl=False)
        return
    _generate(manifests(), directory, check=check)


@app.command(hidden=True)
def reference(
    directory: Annotated[Path, typer.Argument(help="Where the pages are.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a page differs.")] = False,
) -> None:
    """Write the generated pages of the documentation."""
    _generate(pages(), directory, check=check)


def _generate(files: dict[str, str], directory: Path, *, check: bool) -> None:
    """Write generated files, or fail if one differs from what would be written."""
    stale = [name for name, text in files.items() if _text(directory / name) != text]
    if check:
        for name in stale:
            typer.echo(
                f"{directory / name} differs from the models: run `make manifests` and commit it", err=True
            )
        sys.exit(1 if stale else 0)
    directory.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (directory / name).write_text(files[name])
        typer.echo(f"wrote {directory / name}")


@app.command()
def watch(
    type_name: Annotated[str, typer.Argument(metavar="TASKTYPE", help="Whose tasks to watch.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show phases, rate and expected end until all tasks of a type have ended; then a summary of errors.

    Exits with 1 if a task failed or was cancelled, with 0 if all succeeded.
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
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's name.")],
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show every attempt of a task: when, where, how it ended, and how it is known to be dead."""
    console = Console()
    with _client_errors():
        found = watching.read_task(watching.tasks_api(kubeconfig, context), namespace, task)
        console.print(watching.history_table(found))
        if found.status.message:
            console.print(found.status.message)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@contextmanager
def _client_errors() -> Iterator[None]:
    """Say in a line what is wrong, and end."""
    try:
        yield
    except watching.NotThere as error:
        message = str(error)
    except ConfigException as error:
        message = (
            f"{error} Name a kubeconfig with --kubeconfig or KUBECONFIG, and a context in it with --context"
        )
    except ApiException as error:
        message = f"the API server refused: {error.status} {error.reason}"
    except HTTPError as error:
        message = f"the API server does not answer: {error}"
    else:
        return
    typer.echo(f"asyncflow: {message}", err=True)
    sys.exit(2)


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
