"""The demo: 100 orders polled at a third-party API, 10 at a time, on a real cluster."""

import time
from pathlib import Path

import yaml
from rich.console import Console

from asyncflow.api import names
from asyncflow.api.asynctask import Outcome, Phase
from asyncflow.cli import watch
from asyncflow.cli.summary import Progress
from clusters import cache, kindcluster
from clusters.kindcluster import KubeCluster
from project import image
from project.image import ROOT
from project.install import install

CLUSTER = "asyncflow-demo"
NAMESPACE = "orders"
TYPE = "poll-order"
ORDERS = 100
NEVER = {22, 56, 77}
FLAKY = set(range(7, 99, 7)) - NEVER
MAX_TIMEOUTS = 1


def run(console: Console) -> list[str]:
    """Run the demo; return what was not as it should be, in words. An empty list is a success."""
    began = time.monotonic()
    cluster = kindcluster.up(CLUSTER)
    install(cluster)
    kindcluster.load_image(CLUSTER, image.build_orders())
    _apply(cluster)
    console.rule("[bold]100 orders, 10 at a time; 22, 56 and 77 will never finish")
    api = watch.tasks_api(str(cluster.kubeconfig), cluster.context)
    progress = watch.watch_type(api, NAMESPACE, TYPE, console)
    console.print(watch.phase_table(progress))
    problems = watch.error_table(progress)
    if problems is not None:
        console.print(problems)
    console.print(watch.history_table(watch.read_task(api, NAMESPACE, task_name(14))))
    wrong = deviations(progress)
    for line in wrong:
        console.print(f"[red]not as it should be:[/red] {line}")
    if not wrong:
        console.print(
            "[green]As it should be:[/green] 22, 56 and 77 failed by their deadline, twice each; every "
            "seventh of the others took three attempts, all others one."
        )
    console.print(f"{time.monotonic() - began:.0f} s in all.\n")
    _what_next(cluster, console)
    return wrong


def task_name(order: int) -> str:
    """Return the name of an order's task."""
    return f"order-{order:02}"


def deviations(progress: Progress) -> list[str]:
    """Compare what came of the tasks with what must come of them."""
    by_name = {task.metadata.name: task for task in progress.tasks.values()}
    wrong = []
    for order in range(ORDERS):
        task = by_name.get(task_name(order))
        if task is None:
            wrong.append(f"{task_name(order)} is not there")
            continue
        status = task.status
        outcomes = [attempt.outcome for attempt in status.attempts]
        if order in NEVER:
            right = status.phase is Phase.FAILED and status.reason == "MaxTimeoutsExceeded"
            expected = [Outcome.TIMED_OUT] * (MAX_TIMEOUTS + 1)
        else:
            right = status.phase is Phase.SUCCEEDED
            expected = [Outcome.FAILED] * (2 if order in FLAKY else 0) + [Outcome.SUCCEEDED]
        if not right or outcomes != expected:
            seen = ", ".join(str(outcome) for outcome in outcomes)
            wrong.append(f"{task_name(order)} is {status.phase} {status.reason} after: {seen}")
    return wrong


def _apply(cluster: KubeCluster) -> None:
    """Start from nothing: the orders' namespace is made anew, with API, type and tasks."""
    with cache.step("starting the order API, one TaskType and 100 AsyncTasks"):
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
        cluster.kubectl("create", "namespace", NAMESPACE)
        cluster.kubectl("-n", NAMESPACE, "apply", "-f", str(ROOT / "examples" / "orders" / "orders.yaml"))
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/order-api", "--timeout=120s")
        cluster.kubectl(
            "-n", NAMESPACE, "apply", "-f", "-", stdin=yaml.safe_dump_all(map(task, range(ORDERS)))
        )


def task(order: int) -> dict[str, object]:
    """Return the task that polls one order."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.TASK_KIND,
        "metadata": {"name": task_name(order)},
        "spec": {"taskTypeName": TYPE, "payload": {"order": order}},
    }


def _what_next(cluster: KubeCluster, console: Console) -> None:
    console.print("[bold]What to try next[/bold]")
    for line in (
        f"export PATH={_short(cluster.kubectl.binary.parent)}:$PATH KUBECONFIG={_short(cluster.kubeconfig)}",
        f"kubectl get at,tt -n {NAMESPACE}              # every task in a line, and why it waits or failed",
        f"kubectl describe at order-22 -n {NAMESPACE}   # conditions, schedule log, events",
        "kubectl explain tt.spec.retry            # the API, field by field",
        f"PYTHONPATH=operator .venv/bin/python -m asyncflow history order-14 -n {NAMESPACE}",
        "make demo-down                         # remove all of it",
    ):
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)


def _short(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
