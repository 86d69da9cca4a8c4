"""The objects that are created: pod template, TaskTypes and AsyncTasks."""

from typing import Any

from support.admin_api import Body

API_VERSION = "asyncflow.dev/v1alpha1"
TASK_TYPE = "bench"
TEMPLATE: Body = {
    "spec": {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": "none", "command": ["work"]}],
    }
}
"""A pod that ends with 0 as soon as it runs: kwok plays the kubelet."""


def task_type_body(name: str = TASK_TYPE, *, template: Body = TEMPLATE, **spec: Any) -> Body:
    """Return a TaskType."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TaskType",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def task_body(name: str, *, task_type: str = TASK_TYPE, **spec: Any) -> Body:
    """Return a task."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AsyncTask",
        "metadata": {"name": name},
        "spec": {"taskTypeName": task_type, **spec},
    }
