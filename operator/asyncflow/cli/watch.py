"""``asyncflow watch`` and ``asyncflow history``: what a developer looks at."""

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
PLAIN_EVERY = 10.0
"""Seconds between two lines where there is no terminal to draw on."""
NAMES_SHOWN = 10


class NotThere(Exception):
    """What was asked for does not exist; the message says what was looked for."""


def tasks_api(kubeconfig: str | None, context: str | None) -> Any:
    """Return the client of the custom resources."""
    load: Any = config.new_client_from_config
    return CustomObjectsApi(load(kubeconfig, context))


def watch_type(api: Any, namespace: str, type_name: str, console: Console) -> Progress:
    """Show how the tasks of a type come on, until all that are there have ended.

    Raises:
        NotThere: no task of that type is there.
    """
    progress = Progress(began=time.monotonic())
    listed = api.list_namespaced_custom_object(names.GROUP, names.VERSION, namespace, names.TASK_PLURAL)
    for body in listed["items"]:
        _note(progress, "ADDED", body, type_name)
    if not progress.tasks:
        raise NotThere(f"there is no AsyncTask of type {type_name} in namespace {namespace}")
    with _display(progress, type_name, console):
        version = listed["metadata"]["resourceVersion"]
        while progress.open:
            version = _follow(api, namespace, type_name, progress, version)
    return progress


def _follow(api: Any, namespace: str, type_name: str, progress: Progress, version: str) -> str:
    """Take in events until all tasks have ended or the stream does; return where it got to."""
    stream: Any = Watch  # untyped
    stream = stream()
    try:
        for event in stream.stream(
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
            _note(progress, event["type"], body, type_name)
            if not progress.open:
                break
    except ApiException as error:
        if error.status != 410:
            raise
        listed = api.list_namespaced_custom_object(names.GROUP, names.VERSION, namespace, names.TASK_PLURAL)
        for body in listed["items"]:
            _note(progress, "MODIFIED", body, type_name)
        version = listed["metadata"]["resourceVersion"]
    return version


def _note(progress: Progress, event: str, body: dict[str, Any], type_name: str) -> None:
    if body["spec"]["taskTypeName"] != type_name:
        return
    if event == "DELETED":
        progress.drop(body["metadata"]["uid"])
    else:
        progress.put(AsyncTask.model_validate(body), time.monotonic())


@contextmanager
def _display(progress: Progress, type_name: str, console: Console) -> Iterator[None]:
    """Draw on a terminal, or else print a line now and then."""
    if console.is_terminal:
        with Live(
            get_renderable=lambda: _picture(progress, type_name), console=console, refresh_per_second=4
        ):
            yield
        return
    done = threading.Event()

    def print_lines() -> None:
        while not done.wait(PLAIN_EVERY):
            console.print(_line(progress), soft_wrap=True)

    printer = threading.Thread(target=print_lines, daemon=True)
    printer.start()
    try:
        yield
    finally:
        done.set()
        printer.join()
        console.print(_line(progress), soft_wrap=True)


def _line(progress: Progress) -> str:
    counts = progress.counts
    parts = [f"{counts[phase]} {phase.value.lower()}" for phase in Phase if counts[phase]]
    return f"{', '.join(parts)}; {_pace(progress)}"


def _pace(progress: Progress) -> str:
    now = time.monotonic()
    rate, left = progress.rate(now), progress.seconds_left(now)
    took = f"{_duration(now - progress.began)} so far"
    if rate is None or left is None or not progress.open:
        return took
    return f"{rate * 60:.0f} a minute, about {_duration(left)} left, {took}"


def _picture(progress: Progress, type_name: str) -> RenderableType:
    counts, total = progress.counts, len(progress.tasks)
    line = Text.assemble(
        (f"{type_name}  ", "bold"), *((f"{counts[phase]} {phase.value}  ", COLORS[phase]) for phase in Phase)
    )
    return Group(
        line, ProgressBar(total=total, completed=total - progress.open, width=60), Text(_pace(progress))
    )


def phase_table(progress: Progress) -> Table:
    """Return the table of tasks and attempts by phase."""
    table = Table(title="Tasks by phase", box=box.SIMPLE)
    for heading in ("Phase", "Tasks", "Attempts"):
        table.add_column(heading, justify="left" if heading == "Phase" else "right")
    for phase in Phase:
        tasks = [task for task in progress.tasks.values() if task.status.phase is phase]
        if tasks:
            made = sum(task.status.attempt or 0 for task in tasks)
            table.add_row(Text(phase.value, COLORS[phase]), str(len(tasks)), str(made))
    return table


def error_table(progress: Progress) -> Table | None:
    """Return the summary of errors; None if there are none."""
    groups = errors(progress.tasks.values())
    if not groups:
        return None
    table = Table(title="Errors", box=box.SIMPLE)
    for heading in ("Tasks", "Reason", "Last attempt", "Which"):
        table.add_column(heading, justify="right" if heading == "Tasks" else "left")
    for group in groups:
        more = len(group.tasks) - NAMES_SHOWN
        which = ", ".join(group.tasks[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        table.add_row(str(len(group.tasks)), group.reason, group.last_attempt, which)
    return table


def read_task(api: Any, namespace: str, name: str) -> AsyncTask:
    """Read one task.

    Raises:
        NotThere: there is none of that name.
    """
    try:
        body = api.get_namespaced_custom_object(
            names.GROUP, names.VERSION, namespace, names.TASK_PLURAL, name
        )
    except ApiException as error:
        if error.status == 404:
            raise NotThere(f"there is no AsyncTask {name} in namespace {namespace}") from None
        raise
    return AsyncTask.model_validate(body)


def history_table(task: AsyncTask) -> Table:
    """Return a task's schedule log."""
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
            _told(attempt.proof_of_death, attempt.proof_detail),
        )
    return table


def _outcome(attempt: Attempt) -> str:
    """Tell how an attempt ended, and what a person decided after it."""
    if attempt.outcome is None:
        return "running"
    if attempt.decision is None:
        return attempt.outcome.value
    return f"{attempt.outcome.value}, then {_told(attempt.decision, attempt.decision_note)}"


def _told(what: StrEnum | None, detail: str) -> str:
    return "" if what is None else f"{what.value}: {detail}" if detail else what.value


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
