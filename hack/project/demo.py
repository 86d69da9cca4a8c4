"""The demo: polls a third-party API for 100 orders, 10 at a time, on a kind cluster."""

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
NEVER_FINISHED = {22, 56, 77}
FLAKY = set(range(7, 99, 7)) - NEVER_FINISHED
MAX_TIMEOUTS = 1


def run(console: Console) -> list[str]:
    """Run the demo; return the unexpected results, an empty list on success."""
    started = time.monotonic()
    cluster = kindcluster.up(CLUSTER)
    install(cluster)
    kindcluster.load_image(CLUSTER, image.build_orders())
    _apply(cluster)
    console.rule("[bold]100 orders, 10 at a time; 22, 56 and 77 will never finish")
    api = watch.tasks_api(str(cluster.kubeconfig), cluster.context)
    progress = watch.watch_type(api, NAMESPACE, TYPE, console)
    console.print(watch.phase_table(progress))
    failures = watch.error_table(progress)
    if failures is not None:
        console.print(failures)
    console.print(watch.history_table(watch.read_task(api, NAMESPACE, task_name(14))))
    unexpected = unexpected_results(progress)
    for line in unexpected:
        console.print(f"[red]unexpected result:[/red] {line}")
    if not unexpected:
        console.print(
            "[green]All results are as expected:[/green] 22, 56 and 77 failed after two timeouts each; every "
            "seventh of the others took three attempts, all others one."
        )
    console.print(f"{time.monotonic() - started:.0f} s in total.\n")
    _print_next_steps(cluster, console)
    return unexpected


def task_name(order: int) -> str:
    """Return the name of the task of an order."""
    return f"order-{order:02}"


def unexpected_results(progress: Progress) -> list[str]:
    """Return a line for each task whose phase or attempts are not the expected ones."""
    by_name = {task.metadata.name: task for task in progress.tasks.values()}
    unexpected = []
    for order in range(ORDERS):
        task = by_name.get(task_name(order))
        if task is None:
            unexpected.append(f"{task_name(order)} does not exist")
            continue
        status = task.status
        outcomes = [attempt.outcome for attempt in status.attempts]
        if order in NEVER_FINISHED:
            phase_matches = status.phase is Phase.FAILED and status.reason == "MaxTimeoutsExceeded"
            expected = [Outcome.TIMED_OUT] * (MAX_TIMEOUTS + 1)
        else:
            phase_matches = status.phase is Phase.SUCCEEDED
            expected = [Outcome.FAILED] * (2 if order in FLAKY else 0) + [Outcome.SUCCEEDED]
        if not phase_matches or outcomes != expected:
            attempts = ", ".join(str(outcome) for outcome in outcomes)
            unexpected.append(f"{task_name(order)} is {status.phase} {status.reason} after: {attempts}")
    return unexpected


def _apply(cluster: KubeCluster) -> None:
    """Create the namespace, the order API, the TaskType and the tasks; delete those of an earlier run."""
    with cache.step("starting the order API, one TaskType and 100 AsyncTasks"):
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
        cluster.kubectl("create", "namespace", NAMESPACE)
        cluster.kubectl("-n", NAMESPACE, "apply", "-f", str(ROOT / "examples" / "orders" / "orders.yaml"))
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/order-api", "--timeout=120s")
        cluster.kubectl(
            "-n", NAMESPACE, "apply", "-f", "-", stdin=yaml.safe_dump_all(map(task, range(ORDERS)))
        )


def task(order: int) -> dict[str, object]:
    """Return the manifest of the task that polls one order."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.TASK_KIND,
        "metadata": {"name": task_name(order)},
        "spec": {"taskTypeName": TYPE, "payload": {"order": order}},
    }


def _print_next_steps(cluster: KubeCluster, console: Console) -> None:
    console.print("[bold]Next steps[/bold]")
    for line in (
        f"export PATH={_short(cluster.kubectl.binary.parent)}:$PATH KUBECONFIG={_short(cluster.kubeconfig)}",
        f"kubectl get at,tt -n {NAMESPACE}              # one line per task: why it waits or has failed",
        f"kubectl describe at order-22 -n {NAMESPACE}   # conditions, schedule log, events",
        "kubectl explain tt.spec.retry            # the API, field by field",
        f"PYTHONPATH=operator .venv/bin/python -m asyncflow history order-14 -n {NAMESPACE}",
        "make demo-down                         # remove the cluster",
    ):
        console.print(f"  {line}", soft_wrap=True, highlight=False, markup=False)


def _short(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
