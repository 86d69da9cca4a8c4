"""Tasks that have ended and lie about, until retention removes them."""

from datetime import UTC, datetime
from uuid import uuid4

from performance.environment import Environment
from performance.objects import task_body, task_type_body
from support.admin_api import TASKS, TYPES, Body


async def fill(environment: Environment, tasks: int) -> str:
    """Make so many tasks that have ended, with the record that the operator leaves; their Jobs are gone.

    Returns:
        The namespace.
    """
    namespace, api = await environment.new_namespace(), environment.api
    await api.send("POST", TYPES.format(namespace), task_type_body())
    names = [f"f-{number:06}" for number in range(tasks)]
    await api.create(TASKS.format(namespace), [task_body(name) for name in names])
    path = TASKS.format(namespace)
    await api.send_all(("PATCH", f"{path}/{name}/status", ended(name)) for name in names)
    return namespace


def ended(name: str) -> Body:
    """Return the status of a task whose only attempt has succeeded just now."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    attempt = {
        "number": 1,
        "run": 1,
        "stage": 0,
        "jobName": f"{name}-1",
        "jobUid": str(uuid4()),
        "startTime": now,
        "endTime": now,
        "outcome": "Succeeded",
        "exitCode": 0,
        "proofOfDeath": "Node",
    }
    complete = {
        "type": "Complete",
        "status": "True",
        "reason": "Completed",
        "message": "",
        "lastTransitionTime": now,
    }
    status = {
        "phase": "Succeeded",
        "observedGeneration": 1,
        "run": 1,
        "attempt": 1,
        "shard": 1,
        "attempts": [attempt],
        "startTime": now,
        "completionTime": now,
        "conditions": [complete],
    }
    return {"status": status}
