"""The output of ``asyncflow watch`` and ``asyncflow history``."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from kubernetes import config
from kubernetes.client import ApiException, CustomObjectsApi
from kubernetes.watch import Watch
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asyncflow.api import names
from asyncflow.api.asynctask import AsyncTask, Attempt, Phase
from asyncflow.cli.summary import Progress, errors

COLORS = {
    Phase.PENDING: "dim",
    Phase.RUNNING: "cyan",
    Phase.SUCCEEDED: "green",
    Phase.FAILED: "red",
    Phase.CANCELLED: "yellow",
}
LINE_INTERVAL = 10.0
"""Seconds between two lines of progress if the output is not a terminal."""
NAMES_SHOWN = 10
"""Maximum number of task names in a row of the table of failures."""


class NotFound(Exception):
    """The requested object does not exist; the message names it."""


def tasks_api(kubeconfig: str | None, context: str | None) -> Any:
    """Return a client for the custom resources.

    Raises:
        ConfigException: the kubeconfig cannot be loaded.
    """
    load: Any = config.new_client_from_config
    return CustomObjectsApi(load(kubeconfig, context))


def watch_type(api: Any, namespace: str, type_name: str, console: Console) -> Progress:
    """Show the progress of the tasks of a type until all have finished; return it.

    Raises:
        NotFound: the namespace has no task of that type.
        ApiException: the API server returned an error.
    """
    progress = Progress(began=time.monotonic())
    tasks = api.list_namespaced_custom_object(names.GROUP, names.VERSION, namespace, names.TASK_PLURAL)
    for body in tasks["items"]:
        _apply_event(progress, "ADDED", body, type_name)
    if not progress.tasks:
        raise NotFound(f"no AsyncTask of TaskType {type_name} found in namespace {namespace}")
    with _display(progress, type_name, console):
        version = tasks["metadata"]["resourceVersion"]
        while progress.open:
            version = _follow(api, namespace, type_name, progress, version)
    return progress


def _follow(api: Any, namespace: str, type_name: str, progress: Progress, version: str) -> str:
    """Apply watch events until all tasks have finished or the watch ends; return the resource version."""
    watch: Any = Watch  # untyped
    try:
        for event in watch().stream(
            api.list_namespaced_custom_object,
            names.GROUP,
            names.VERSION,
            namespace,
            names.TASK_PLURAL,
            resource_version=version,
            timeout_seconds=60,
        ):
            body = event["object"]
            version = body["metadata"]["resourceVersion"]
            _apply_event(progress, event["type"], body, type_name)
            if not progress.open:
                break
    except ApiException as error:
        if error.status != 410:
            raise
        tasks = api.list_namespaced_custom_object(names.GROUP, names.VERSION, namespace, names.TASK_PLURAL)
        for body in tasks["items"]:
            _apply_event(progress, "MODIFIED", body, type_name)
        version = tasks["metadata"]["resourceVersion"]
    return version


def _apply_event(progress: Progress, event_type: str, body: dict[str, Any], type_name: str) -> None:
    if body["spec"]["taskTypeName"] != type_name:
        return
    if event_type == "DELETED":
        progress.drop(body["metadata"]["uid"])
    else:
        progress.put(AsyncTask.model_validate(body), time.monotonic())


@contextmanager
def _display(progress: Progress, type_name: str, console: Console) -> Iterator[None]:
    """Show live progress on a terminal, else print a line every `LINE_INTERVAL` seconds."""
    if console.is_terminal:
        with Live(
            get_renderable=lambda: _progress_view(progress, type_name), console=console, refresh_per_second=4
        ):
            yield
        return
    done = threading.Event()

    def print_lines() -> None:
        while not done.wait(LINE_INTERVAL):
            console.print(_progress_line(progress), soft_wrap=True)

    printer = threading.Thread(target=print_lines, daemon=True)
    printer.start()
    try:
        yield
    finally:
        done.set()
        printer.join()
        console.print(_progress_line(progress), soft_wrap=True)


def _progress_line(progress: Progress) -> str:
    counts = progress.counts
    parts = [f"{counts[phase]} {phase.value.lower()}" for phase in Phase if counts[phase]]
    return f"{', '.join(parts)}; {_pace(progress)}"


def _pace(progress: Progress) -> str:
    now = time.monotonic()
    rate, left = progress.rate(now), progress.seconds_left(now)
    elapsed = f"{_duration(now - progress.began)} elapsed"
    if rate is None or left is None or not progress.open:
        return elapsed
    return f"{rate * 60:.0f}/min, about {_duration(left)} left, {elapsed}"


def _progress_view(progress: Progress, type_name: str) -> RenderableType:
    counts, total = progress.counts, len(progress.tasks)
    line = Text.assemble(
        (f"{type_name}  ", "bold"), *((f"{counts[phase]} {phase.value}  ", COLORS[phase]) for phase in Phase)
    )
    return Group(
        line, ProgressBar(total=total, completed=total - progress.open, width=60), Text(_pace(progress))
    )


def phase_table(progress: Progress) -> Table:
    """Return a table of tasks and attempts by phase."""
    table = Table(title="Tasks by phase", box=box.SIMPLE)
    for heading in ("Phase", "Tasks", "Attempts"):
        table.add_column(heading, justify="left" if heading == "Phase" else "right")
    for phase in Phase:
        tasks = [task for task in progress.tasks.values() if task.status.phase is phase]
        if tasks:
            attempts = sum(task.status.attempt or 0 for task in tasks)
            table.add_row(Text(phase.value, COLORS[phase]), str(len(tasks)), str(attempts))
    return table


def error_table(progress: Progress) -> Table | None:
    """Return a table of the failed tasks by reason; None if no task has failed."""
    groups = errors(progress.tasks.values())
    if not groups:
        return None
    table = Table(title="Errors", box=box.SIMPLE)
    for heading in ("Tasks", "Reason", "Last attempt", "Names"):
        table.add_column(heading, justify="right" if heading == "Tasks" else "left")
    for group in groups:
        more = len(group.tasks) - NAMES_SHOWN
        task_names = ", ".join(group.tasks[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        table.add_row(str(len(group.tasks)), group.reason, group.last_attempt, task_names)
    return table


def read_task(api: Any, namespace: str, name: str) -> AsyncTask:
    """Read one task.

    Raises:
        NotFound: the task does not exist.
        ApiException: the API server returned another error.
    """
    try:
        body = api.get_namespaced_custom_object(
            names.GROUP, names.VERSION, namespace, names.TASK_PLURAL, name
        )
    except ApiException as error:
        if error.status == 404:
            raise NotFound(f"AsyncTask {name} not found in namespace {namespace}") from None
        raise
    return AsyncTask.model_validate(body)


def history_table(task: AsyncTask) -> Table:
    """Return a table of the attempts of a task that its status keeps."""
    status = task.status
    title = f"{task.metadata.name}: {status.phase.value}" + (f" ({status.reason})" if status.reason else "")
    table = Table(title=title, box=box.SIMPLE)
    for heading in (
        "Attempt",
        "Job",
        "Start",
        "End",
        "Outcome",
        "Exit",
        "Reason",
        "Proof of death",
    ):
        table.add_column(heading, overflow="fold")
    for attempt in status.attempts:
        table.add_row(
            str(attempt.number),
            attempt.job_name,
            f"{attempt.start_time:%H:%M:%S}" if attempt.start_time else "",
            f"{attempt.end_time:%H:%M:%S}" if attempt.end_time else "",
            _outcome(attempt),
            "" if attempt.exit_code is None else str(attempt.exit_code),
            attempt.reason,
            _with_detail(attempt.proof_of_death, attempt.proof_detail),
        )
    return table


def _outcome(attempt: Attempt) -> str:
    """Return how an attempt ended, and what a user decided after it."""
    if attempt.outcome is None:
        return "running"
    if attempt.decision is None:
        return attempt.outcome.value
    return f"{attempt.outcome.value}, then {_with_detail(attempt.decision, attempt.decision_note)}"


def _with_detail(value: StrEnum | None, detail: str) -> str:
    return "" if value is None else f"{value.value}: {detail}" if detail else value.value


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
