"""What the resources share: the base model, object metadata, conditions, times."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """A part of a Kubernetes object: camelCase outside, frozen inside, unknown fields ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def to_api(self) -> dict[str, Any]:
        """Return the object as the API server takes it, without the fields that are not set."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


class StatusModel(ApiModel):
    """The status of a resource: what says no more than its absence is not written."""

    def to_api(self) -> dict[str, Any]:
        """Return the status as it is written."""
        return self.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True, mode="json")


def merge_patch(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7396) that makes one object of another."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if deeper := merge_patch(before, value):
                patch[name] = deeper
        elif before != value:
            patch[name] = value
    return patch


def parse_time(value: str) -> datetime:
    """Read an RFC 3339 time as Kubernetes writes it.

    Raises:
        ValueError: the text is no such time.
    """
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """Write a time as ``metav1.Time`` does: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Time = Annotated[
    datetime,
    BeforeValidator(lambda v: parse_time(v) if isinstance(v, str) else v),
    PlainSerializer(format_time, return_type=str, when_used="json"),
]
"""A moment, whole seconds in the API."""

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(ApiModel):
    """One observation of the object's state, as in ``metav1.Condition``."""

    type: str = Field(description="The condition's name, in CamelCase.", max_length=64)
    status: ConditionStatus = Field(description="Whether it holds: True, False or Unknown.")
    reason: str = Field(default="", description="Why, as one CamelCase word.", max_length=128)
    message: str = Field(default="", description="Why, as a sentence for people.", max_length=4096)
    last_transition_time: Time | None = Field(default=None, description="When the status last changed.")
    observed_generation: int | None = Field(
        default=None, description="The generation of the spec that this was observed on.", ge=0
    )


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class OwnerReference(ApiModel):
    """Whose the object is."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(ApiModel):
    """The part of an object's metadata that asyncflow reads."""

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
    """Return the condition of that type, if there is one."""
    return next((condition for condition in conditions if condition.type == condition_type), None)


def is_true(conditions: tuple[Condition, ...], condition_type: str) -> bool:
    """Tell whether the condition of that type is there and True."""
    found = find_condition(conditions, condition_type)
    return found is not None and found.status == "True"


def with_condition(conditions: tuple[Condition, ...], new: Condition, now: datetime) -> tuple[Condition, ...]:
    """Put a condition in its place; its transition time moves only when its status changes."""
    old = find_condition(conditions, new.type)
    since = old.last_transition_time if old is not None and old.status == new.status else now
    placed = new.model_copy(update={"last_transition_time": since})
    if old is None:
        return (*conditions, placed)
    return tuple(placed if condition.type == new.type else condition for condition in conditions)
