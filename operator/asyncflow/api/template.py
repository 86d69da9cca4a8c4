"""The pod template of a TaskType: the fields that asyncflow reads or restricts; all others are preserved.

A full copy of the pod schema takes 126–378 KB of a CRD. The preserved fields are validated by the API server
when the Job of the type is created as a dry run.
"""

from typing import Any

from pydantic import ConfigDict, Field

from asyncflow.api.meta import ApiModel

PRESERVE: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
DEFAULT_GRACE_SECONDS = 30
"""Kubernetes' own default of ``terminationGracePeriodSeconds``."""


def rule(expression: str, message: str, field_path: str | None = None) -> dict[str, str]:
    """Return an entry of ``x-kubernetes-validations``: a CEL expression, and the message if it is false."""
    validation = {"rule": expression, "message": message}
    return validation if field_path is None else {**validation, "fieldPath": field_path}


def rules(*validations: dict[str, str]) -> dict[str, Any]:
    """Return the schema extra of a model that has CEL rules."""
    return {"x-kubernetes-validations": list(validations)}


class OpenModel(ApiModel):
    """Base of the parts of a pod template: fields that are not declared here are preserved."""

    model_config = ConfigDict(extra="allow", json_schema_extra=PRESERVE)


class Lifecycle(OpenModel):
    """The lifecycle hooks of a container."""

    post_start: dict[str, Any] | None = Field(
        default=None,
        description="Not allowed: the kubelet does not enforce the deadline while the hook runs.",
        json_schema_extra=PRESERVE,
    )


class Probe(OpenModel):
    """A liveness or startup probe, as in the core API; all its fields are preserved."""

    termination_grace_period_seconds: int | None = Field(
        default=None,
        ge=1,
        description="Seconds between SIGTERM and SIGKILL when the probe fails; at most that of the pod: "
        "the container may run so long past the deadline.",
    )


class EnvVar(OpenModel):
    """An environment variable, as in the core API; all its fields are preserved."""

    name: str = Field(
        description="Name of the variable. Variables with the prefix ASYNCFLOW_ are dropped.", max_length=256
    )


class Container(OpenModel):
    """A container, as in the core API; all its fields are preserved."""

    model_config = ConfigDict(
        json_schema_extra={
            **PRESERVE,
            **rules(
                rule(
                    "!has(self.lifecycle) || !has(self.lifecycle.postStart)",
                    "lifecycle.postStart is not allowed: the kubelet does not enforce the deadline while it "
                    "runs. Do that work in the container itself or in an init container",
                ),
                rule(
                    "!has(self.restartPolicyRules)",
                    "restartPolicyRules is not allowed: an attempt runs its containers once. "
                    "Use spec.retry instead",
                ),
            ),
        }
    )

    name: str = Field(description="Name of the container, unique in the pod.", min_length=1, max_length=63)
    image: str | None = Field(default=None, description="Image of the container.", max_length=1024)
    env: tuple[EnvVar, ...] | None = Field(
        default=None,
        description="Environment variables. The ASYNCFLOW_ variables come first, so that others can refer to "
        "them as $(ASYNCFLOW_TASK).",
        max_length=500,
    )
    lifecycle: Lifecycle | None = Field(
        default=None, description="Lifecycle hooks: preStop is allowed, postStart is not."
    )
    liveness_probe: Probe | None = Field(default=None, description="Liveness probe, as in the core API.")
    startup_probe: Probe | None = Field(default=None, description="Startup probe, as in the core API.")
    restart_policy: str | None = Field(
        default=None,
        description="Never or unset; for an init container also Always, which makes it a sidecar.",
        max_length=16,
    )
    restart_policy_rules: list[dict[str, Any]] | None = Field(
        default=None, description="Not allowed: use spec.retry.", max_length=20
    )


def _probes_within_grace(container: str) -> str:
    """Return the CEL condition that no probe of a container has a longer grace period than the pod (self)."""
    grace = (
        "(has(self.terminationGracePeriodSeconds) ? self.terminationGracePeriodSeconds : "
        f"{DEFAULT_GRACE_SECONDS})"
    )
    return " && ".join(
        f"(!has({container}.{probe}) || !has({container}.{probe}.terminationGracePeriodSeconds) || "
        f"{container}.{probe}.terminationGracePeriodSeconds <= {grace})"
        for probe in ("livenessProbe", "startupProbe")
    )


class PodSpec(OpenModel):
    """A pod spec, as in the core API; all its fields are preserved."""

    model_config = ConfigDict(
        json_schema_extra={
            **PRESERVE,
            **rules(
                rule(
                    "!has(self.activeDeadlineSeconds)",
                    "activeDeadlineSeconds is set by asyncflow: use spec.deadlines.attemptSeconds instead",
                ),
                rule(
                    "!has(self.restartPolicy) || self.restartPolicy == 'Never'",
                    "restartPolicy must be Never or unset: each attempt is a new pod. Use spec.retry instead",
                ),
                rule(
                    "self.containers.all(c, !has(c.restartPolicy) || c.restartPolicy == 'Never')",
                    "containers[*].restartPolicy must be Never or unset: an attempt runs its containers "
                    "once. Use spec.retry instead",
                ),
                rule(
                    "!has(self.initContainers) || self.initContainers.all(c, !has(c.restartPolicy) || "
                    "c.restartPolicy in ['Never', 'Always'])",
                    "initContainers[*].restartPolicy must be Never, Always (a sidecar) or unset",
                ),
                rule(
                    f"self.containers.all(c, {_probes_within_grace('c')})",
                    "containers[*]: the terminationGracePeriodSeconds of a livenessProbe or startupProbe "
                    "must not exceed that of the pod: its container would run past the deadline",
                ),
                rule(
                    f"!has(self.initContainers) || self.initContainers.all(c, {_probes_within_grace('c')})",
                    "initContainers[*]: the terminationGracePeriodSeconds of a livenessProbe or startupProbe "
                    "must not exceed that of the pod: its container would run past the deadline",
                ),
            ),
        }
    )

    containers: tuple[Container, ...] = Field(
        description="Containers of the pod; each gets the ASYNCFLOW_ variables.", min_length=1, max_length=16
    )
    init_containers: tuple[Container, ...] | None = Field(
        default=None,
        description="Init containers of the pod; each gets the ASYNCFLOW_ variables.",
        max_length=16,
    )
    restart_policy: str | None = Field(default=None, description="Never or unset.", max_length=16)
    active_deadline_seconds: int | None = Field(
        default=None, description="Not allowed: use spec.deadlines.attemptSeconds."
    )
    termination_grace_period_seconds: int | None = Field(
        default=None,
        description="Seconds between SIGTERM and SIGKILL when an attempt is stopped. Defaults to 30. 0 is "
        "not allowed: the API server would delete the pod before its node has ended it.",
        ge=1,
        le=3600,
    )

    @property
    def grace_seconds(self) -> int:
        """Seconds between SIGTERM and SIGKILL."""
        grace = self.termination_grace_period_seconds
        return DEFAULT_GRACE_SECONDS if grace is None else grace


class JobMeta(ApiModel):
    """Labels and annotations of the Jobs."""

    labels: dict[str, str] = Field(
        default_factory=dict,
        description="Labels of the Jobs, for example kueue.x-k8s.io/queue-name. Labels set by asyncflow "
        "take precedence; those with the prefix asyncflow.dev/ are dropped.",
    )
    annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Annotations of the Jobs. Those with the prefix asyncflow.dev/ are dropped.",
    )


class TemplateMeta(ApiModel):
    """Labels and annotations of the pods."""

    labels: dict[str, str] = Field(
        default_factory=dict, description="Labels of the pods. Labels set by asyncflow take precedence."
    )
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the pods.")


class PodTemplate(ApiModel):
    """A pod template, as in a Job."""

    metadata: TemplateMeta = Field(
        default_factory=TemplateMeta, description="Labels and annotations of the pods."
    )
    spec: PodSpec = Field(
        description="Spec of the pods, as in a Job: see kubectl explain job.spec.template.spec. Fields that "
        "are not listed here are preserved."
    )
