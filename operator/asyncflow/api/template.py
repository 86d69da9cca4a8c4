"""The pod template of a TaskType: as much of it as the rules need, the rest as it comes.

A full copy of the pod schema is 126–378 KB in a CRD; what the rules don't look at is preserved and judged by
the API server itself, when the type's Job is tried as a dry run.
"""

from typing import Any

from pydantic import ConfigDict, Field

from asyncflow.api.meta import ApiModel

PRESERVE: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
DEFAULT_GRACE_SECONDS = 30
"""Kubernetes' own default of ``terminationGracePeriodSeconds``."""


def rule(expression: str, message: str, field_path: str | None = None) -> dict[str, str]:
    """Return one CEL rule as a CRD carries it."""
    made = {"rule": expression, "message": message}
    return made if field_path is None else {**made, "fieldPath": field_path}


def rules(*made: dict[str, str]) -> dict[str, Any]:
    """Return CEL rules as an extra of a model's schema."""
    return {"x-kubernetes-validations": list(made)}


class OpenModel(ApiModel):
    """A part of an object of which asyncflow names some fields and keeps them all."""

    model_config = ConfigDict(extra="allow", json_schema_extra=PRESERVE)


class Lifecycle(OpenModel):
    """What happens around a container's life."""

    post_start: dict[str, Any] | None = Field(
        default=None,
        description="Refused: the deadline is not looked at while it runs.",
        json_schema_extra=PRESERVE,
    )


class EnvVar(OpenModel):
    """One environment variable; every field of the core API is kept."""

    name: str = Field(
        description="The variable's name; ASYNCFLOW_ is asyncflow's own prefix.", max_length=256
    )


class Container(OpenModel):
    """One container; every field of the core API is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            **PRESERVE,
            **rules(
                rule(
                    "!has(self.lifecycle) || !has(self.lifecycle.postStart)",
                    "lifecycle.postStart is not allowed: the kubelet does not look at the deadline while it "
                    "runs. Do that work in the container itself or in an init container",
                ),
                rule(
                    "!has(self.restartPolicyRules)",
                    "restartPolicyRules is not allowed: an attempt is one run of the process. "
                    "Set the type's retry",
                ),
            ),
        }
    )

    name: str = Field(description="The container's name, unique in the pod.", min_length=1, max_length=63)
    image: str | None = Field(default=None, description="The container's image.", max_length=1024)
    env: tuple[EnvVar, ...] | None = Field(
        default=None, description="Environment variables; they may refer to asyncflow's.", max_length=500
    )
    lifecycle: Lifecycle | None = Field(
        default=None, description="Hooks; preStop is allowed, postStart is not."
    )
    restart_policy: str | None = Field(
        default=None,
        description="Allowed on init containers only, as Always (a sidecar).",
        max_length=16,
    )
    restart_policy_rules: list[dict[str, Any]] | None = Field(
        default=None, description="Refused.", max_length=20
    )


class PodSpec(OpenModel):
    """The pod's spec; every field of the core API is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            **PRESERVE,
            **rules(
                rule(
                    "!has(self.activeDeadlineSeconds)",
                    "activeDeadlineSeconds is asyncflow's own to set: use spec.deadlines.attemptSeconds",
                ),
                rule(
                    "!has(self.restartPolicy) || self.restartPolicy == 'Never'",
                    "restartPolicy must be Never or left out: a next attempt is a new pod. "
                    "Set the type's retry",
                ),
                rule(
                    "self.containers.all(c, !has(c.restartPolicy) || c.restartPolicy == 'Never')",
                    "a container's own restartPolicy must be Never or left out: "
                    "an attempt is one run of the process",
                ),
                rule(
                    "!has(self.initContainers) || self.initContainers.all(c, !has(c.restartPolicy) || "
                    "c.restartPolicy in ['Never', 'Always'])",
                    "an init container's restartPolicy must be Always (a sidecar), Never, or left out",
                ),
            ),
        }
    )

    containers: tuple[Container, ...] = Field(
        description="The containers; each gets the ASYNCFLOW_ variables.", min_length=1, max_length=16
    )
    init_containers: tuple[Container, ...] | None = Field(
        default=None, description="Containers that run first, one after the other.", max_length=16
    )
    restart_policy: str | None = Field(default=None, description="Never, or left out.", max_length=16)
    active_deadline_seconds: int | None = Field(
        default=None, description="Refused: see deadlines.attemptSeconds."
    )
    termination_grace_period_seconds: int | None = Field(
        default=None,
        description="Seconds between SIGTERM and SIGKILL when an attempt's deadline has passed (30).",
        ge=0,
        le=3600,
    )

    @property
    def grace_seconds(self) -> int:
        """How long the kubelet waits after SIGTERM, in seconds."""
        grace = self.termination_grace_period_seconds
        return DEFAULT_GRACE_SECONDS if grace is None else grace


class TemplateMeta(ApiModel):
    """The labels and annotations that the pods get beside asyncflow's own."""

    labels: dict[str, str] = Field(default_factory=dict, description="Labels of the pods.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations of the pods.")


class PodTemplate(ApiModel):
    """A pod template, as in a Job."""

    metadata: TemplateMeta = Field(
        default_factory=TemplateMeta, description="Labels and annotations of the pods."
    )
    spec: PodSpec = Field(
        description="The pod's spec, as in a Job (see kubectl explain job.spec.template.spec)."
    )
