"""The CustomResourceDefinitions and the admission policy, generated from the models."""

from typing import Any

import yaml

from asyncflow.api import names
from asyncflow.api.asynctask import IMMUTABLE, AsyncTask
from asyncflow.api.schema import structural_schema
from asyncflow.api.tasktype import TaskType
from asyncflow.api.template import rule

HEADER = (
    "# Generated from the models in operator/asyncflow/api by `make manifests`. "
    "Change those, not this file.\n"
)
POLICY_NAME = f"asynctask-payload.{names.GROUP}"


def _column(
    name: str, path: str, kind: str = "string", priority: int = 0, description: str = ""
) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    if priority:
        column["priority"] = priority
    return column


TASK_COLUMNS = [
    _column("Type", ".spec.taskTypeName"),
    _column("Phase", ".status.phase"),
    _column("Reason", ".status.reason", description="Why the task is in its phase, or what it waits for"),
    _column("Attempt", ".status.attempt", "integer"),
    _column("Retry", ".status.retryTime", "string", 1, "When the next attempt may start"),
    _column("Priority", ".spec.priority", "integer", 1),
    _column("Message", ".status.message", "string", 1),
    _column("Age", ".metadata.creationTimestamp", "date"),
]
TYPE_COLUMNS = [
    _column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    _column("Suspended", ".status.conditions[?(@.type=='Suspended')].status"),
    _column(
        "Concurrent", ".spec.maxConcurrent", "integer", description="How many attempts run at once, at most"
    ),
    _column("Pending", ".status.counts.pending", "integer"),
    _column("Running", ".status.counts.running", "integer"),
    _column("Succeeded", ".status.counts.succeeded", "integer"),
    _column("Failed", ".status.counts.failed", "integer"),
    _column("Waiting", ".status.waiting", "integer", 1, "How many tasks wait for nothing but a slot"),
    _column("Begin", ".status.shards.begin", "integer", 1, "The first shard with tasks that have not ended"),
    _column("End", ".status.shards.end", "integer", 1, "The shard that takes new tasks"),
    _column("Attempt-Seconds", ".spec.deadlines.attemptSeconds", "integer", 1),
    _column("Reason", ".status.conditions[?(@.type=='Ready')].reason", "string", 1),
    _column("Message", ".status.conditions[?(@.type=='Ready')].message", "string", 1),
    _column("Age", ".metadata.creationTimestamp", "date"),
]


def _definition(
    model: type[AsyncTask] | type[TaskType],
    *,
    plural: str,
    short_name: str,
    columns: list[dict[str, Any]],
    root_rules: list[dict[str, str]],
) -> dict[str, Any]:
    schema = structural_schema(model)
    schema["properties"]["metadata"] = {"type": "object"}
    schema["properties"]["apiVersion"] = {"type": "string", "description": "The version of this API."}
    schema["properties"]["kind"] = {"type": "string", "description": "The kind of the object."}
    # Empty by default, so that the parts' defaults apply: a new task's phase is Pending without a write.
    schema["properties"]["status"]["default"] = {}
    # It has one writer: the API server need not keep account of each of its fields.
    schema["properties"]["status"]["x-kubernetes-map-type"] = "atomic"
    schema["required"] = ["spec"]
    schema["x-kubernetes-validations"] = root_rules
    kind = model.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
                "categories": ["asyncflow"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                }
            ],
        },
    }


def task_definition() -> dict[str, Any]:
    """Return the CRD of AsyncTask."""
    return _definition(
        AsyncTask,
        plural=names.TASK_PLURAL,
        short_name="at",
        columns=TASK_COLUMNS,
        root_rules=[
            rule(
                f"self.metadata.name.size() <= {names.TASK_NAME_MAX}",
                f"metadata.name must have at most {names.TASK_NAME_MAX} characters: "
                "its Jobs' names are made from it",
            ),
            rule(
                "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must be a DNS label (lower-case letters, digits and '-'): "
                "its pods are named after it",
            ),
        ],
    )


def type_definition() -> dict[str, Any]:
    """Return the CRD of TaskType."""
    return _definition(
        TaskType,
        plural=names.TYPE_PLURAL,
        short_name="tt",
        columns=TYPE_COLUMNS,
        root_rules=[
            rule(
                "self.metadata.name.size() <= 63 && "
                "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must be a DNS label of at most 63 characters: it labels Jobs and pods",
            )
        ],
    )


def payload_policy() -> list[dict[str, Any]]:
    """Return the admission policy that keeps a payload as it is.

    CEL in a CRD's schema can't look into an object whose fields are not named there; an admission policy can.
    """
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": POLICY_NAME},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": [names.GROUP],
                            "apiVersions": [names.VERSION],
                            "operations": ["UPDATE"],
                            "resources": [names.TASK_PLURAL],
                        }
                    ]
                },
                "validations": [
                    {
                        "expression": "has(object.spec.payload) == has(oldObject.spec.payload) && "
                        "(!has(object.spec.payload) || object.spec.payload == oldObject.spec.payload)",
                        "message": f"spec.payload {IMMUTABLE}",
                        "reason": "Invalid",
                    }
                ],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": POLICY_NAME},
            "spec": {"policyName": POLICY_NAME, "validationActions": ["Deny"]},
        },
    ]


def manifests() -> dict[str, str]:
    """Return every generated file: its name and its text."""
    return {
        f"{names.GROUP}_{names.TYPE_PLURAL}.yaml": _text(type_definition()),
        f"{names.GROUP}_{names.TASK_PLURAL}.yaml": _text(task_definition()),
        "admission-policy.yaml": _text(*payload_policy()),
    }


class _Dumper(yaml.SafeDumper):
    """Writes each part out in full: an alias saves bytes and costs readers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(*documents: dict[str, Any]) -> str:
    return HEADER + yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
