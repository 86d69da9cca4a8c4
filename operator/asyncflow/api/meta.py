"""What both resources share: the base model, object metadata, conditions and timestamps."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Base of all API types: camelCase in JSON, immutable in Python, unknown fields ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def to_api(self) -> dict[str, Any]:
        """Return the object as JSON for the API server, without unset fields."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


class StatusModel(ApiModel):
    """Base of the statuses: a field that has its default value is not written."""

    def to_api(self) -> dict[str, Any]:
        """Return the status as written to the API server."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")


def merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7396) that turns the old object into the new one."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if nested := merge_patch(before, value):
                patch[name] = nested
        elif before != value:
            patch[name] = value
    return patch


def parse_time(value: str) -> datetime:
    """Parse an RFC 3339 timestamp as Kubernetes writes it; without an offset it is UTC.

    Raises:
        ValueError: the text is not a timestamp.
    """
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """Format a timestamp as ``metav1.Time`` does: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[
    datetime,
    BeforeValidator(lambda v: parse_time(v) if isinstance(v, str) else v),
    PlainSerializer(format_time, return_type=str, when_used="json"),
]
"""A timestamp; whole seconds in the API."""

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(ApiModel):
    """One observation of the object's state, as in ``metav1.Condition``."""

    type: str = Field(description="Type of the condition, in CamelCase.", max_length=64)
    status: ConditionStatus = Field(description="Status of the condition: True, False or Unknown.")
    reason: str = Field(
        default="", description="Reason for the status of the condition, in CamelCase.", max_length=128
    )
    message: str = Field(default="", description="Human-readable details about the reason.", max_length=4096)
    last_transition_time: Time | None = Field(
        default=None, description="When the status of the condition last changed."
    )
    observed_generation: int | None = Field(
        default=None, description="metadata.generation on which the condition is based.", ge=0
    )


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class OwnerReference(ApiModel):
    """A reference to an owner of the object, as in ``metav1.OwnerReference``."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(ApiModel):
    """The fields of ``metav1.ObjectMeta`` that asyncflow reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


def find_condition(conditions: tuple[Condition, ...], condition_type: str) -> Condition | None:
    """Return the condition of a type; None if it is not set."""
    return next((condition for condition in conditions if condition.type == condition_type), None)


def is_true(conditions: tuple[Condition, ...], condition_type: str) -> bool:
    """Return whether the condition of a type is set and True."""
    found = find_condition(conditions, condition_type)
    return found is not None and found.status == "True"


def with_condition(conditions: tuple[Condition, ...], new: Condition, now: datetime) -> tuple[Condition, ...]:
    """Return the conditions with one added or replaced.

    ``lastTransitionTime`` changes only with the status, as in ``meta.SetStatusCondition`` of apimachinery.
    """
    old = find_condition(conditions, new.type)
    since = old.last_transition_time if old is not None and old.status == new.status else now
    stamped = new.model_copy(update={"last_transition_time": since})
    if old is None:
        return (*conditions, stamped)
    return tuple(stamped if condition.type == new.type else condition for condition in conditions)
