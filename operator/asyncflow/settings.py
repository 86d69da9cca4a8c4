"""The settings of the operator: environment variables with the prefix ASYNCFLOW_, or command-line options."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def _own_namespace() -> str:
    """Return the namespace of this pod; outside of a pod, ``default``."""
    return OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else "default"


class Settings(BaseSettings):
    """The settings of the operator. Names that end in ``_seconds`` have the unit seconds."""

    model_config = SettingsConfigDict(env_prefix="ASYNCFLOW_", frozen=True)

    namespaces: tuple[str, ...] = Field(
        default=(), description="Namespaces to serve, as a JSON list; if empty, all namespaces are served."
    )
    workers: int = Field(default=16, ge=1, le=256, description="Number of tasks reconciled concurrently.")
    stuck_seconds: float = Field(
        default=10, ge=1, le=30, description="Interval at which running attempts are checked."
    )
    split_seconds: float = Field(
        default=30,
        ge=0.1,
        le=600,
        description="Interval at which the next shard of a type is opened if the last one is full.",
    )
    roll_seconds: float = Field(
        default=10,
        ge=0.1,
        le=600,
        description="Interval at which the tasks of a type are counted, its first shards are retired, and "
        "finished tasks whose retention has ended are deleted.",
    )
    deletions_per_second: float = Field(
        default=50,
        ge=0.1,
        le=1000,
        description="Maximum rate of deletions of Jobs and finished tasks. If more of them finish per second "
        "for long, etcd grows.",
    )
    resync_seconds: float = Field(
        default=300,
        ge=1,
        description="Interval at which the cluster state is compared with full lists, which finds missed "
        "events.",
    )
    lease_seconds: float = Field(
        default=15,
        ge=1,
        le=300,
        description="How long the leader Lease is valid after a renewal. If the leader dies, a standby takes "
        "over after at most lease_seconds + request_seconds.",
    )
    renew_seconds: float = Field(
        default=4,
        gt=0,
        description="Interval at which the leader Lease is renewed; at most half of lease_seconds.",
    )
    request_seconds: float = Field(
        default=10,
        ge=1,
        le=20,
        description="Maximum time that a write is in flight. A new leader waits this long for the writes of "
        "the previous one.",
    )
    lease_namespace: str = Field(
        default_factory=_own_namespace,
        description="Namespace of the leader Lease; defaults to that of the pod, outside of a pod to "
        "default. Must be the same for all operators that serve the same tasks.",
    )
    lease_name: str = Field(
        default="asyncflow-operator",
        description="Name of the leader Lease. Must be the same for all operators that serve the same tasks.",
    )
    identity: str = Field(
        default="",
        description="Holder identity in the leader Lease, such as the name of the pod. Must be unique among "
        "running processes. Defaults to host name, process ID and a random part.",
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Port that serves /healthz and /readyz.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    stop_seconds: float = Field(
        default=10, ge=0, description="Maximum time to finish in-flight work at shutdown."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if len(set(self.namespaces)) != len(self.namespaces):
            raise ValueError("namespaces must not contain duplicates")
        if self.renew_seconds > self.lease_seconds / 2:
            raise ValueError(
                f"renew_seconds ({self.renew_seconds:g}) must be at most half of lease_seconds "
                f"({self.lease_seconds:g}), so that one failed renewal does not lose the leader Lease"
            )
        return self
