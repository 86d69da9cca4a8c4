"""The operator's settings: environment variables that begin with ASYNCFLOW_, or the command line."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def _own_namespace() -> str:
    """Return the namespace that this pod runs in; outside of a pod, ``default``."""
    return OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else "default"


class Settings(BaseSettings):
    """How the operator runs. All intervals are in seconds."""

    model_config = SettingsConfigDict(env_prefix="ASYNCFLOW_", frozen=True)

    namespaces: tuple[str, ...] = Field(
        default=(), description="The namespaces to serve, as a JSON list; all if there are none."
    )
    workers: int = Field(
        default=16, ge=1, le=256, description="How many tasks are worked on at the same time."
    )
    stuck_seconds: float = Field(
        default=10, ge=1, le=600, description="How often the governor looks after running attempts."
    )
    split_seconds: float = Field(
        default=30, ge=0.1, le=600, description="How often it is seen whether a type needs another shard."
    )
    roll_seconds: float = Field(
        default=10,
        ge=0.1,
        le=600,
        description="How often a type's tasks are counted, its first shards retired, and ended tasks "
        "removed.",
    )
    deletions_per_second: float = Field(
        default=50,
        ge=0.1,
        le=1000,
        description="How many Jobs and tasks whose time has come are deleted in a second, at most. Less than "
        "what ends in a second, for long, and the cluster's store grows.",
    )
    resync_seconds: float = Field(
        default=300,
        ge=1,
        description="How often the store is compared with a full list, so that no deletion is missed.",
    )
    lease_seconds: float = Field(
        default=15,
        ge=1,
        le=300,
        description="How long a leadership holds without renewal: a standby works so much later, and "
        "request_seconds, when the leader dies.",
    )
    renew_seconds: float = Field(default=4, gt=0, description="How often the leadership is renewed.")
    request_seconds: float = Field(
        default=10,
        ge=1,
        le=20,
        description="How long a write may be in flight: a new leader waits so long for a former one's.",
    )
    lease_namespace: str = Field(
        default_factory=_own_namespace,
        description="Where the leader's Lease is: the pod's own namespace, or default. Operators that serve "
        "the same tasks need the same.",
    )
    lease_name: str = Field(default="asyncflow-operator", description="The name of the leader's Lease.")
    identity: str = Field(
        default="",
        description="Who this operator is to the others: the pod's name. Never the same for two processes.",
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Where /healthz and /readyz are served.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    stop_seconds: float = Field(default=10, ge=0, description="How long work in flight may take at a stop.")

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if len(set(self.namespaces)) != len(self.namespaces):
            raise ValueError("namespaces: each may be named once")
        if self.renew_seconds > self.lease_seconds / 2:
            raise ValueError(
                f"renew_seconds ({self.renew_seconds:g}) must be at most half of lease_seconds "
                f"({self.lease_seconds:g}): one renewal that fails would end the leadership"
            )
        return self
