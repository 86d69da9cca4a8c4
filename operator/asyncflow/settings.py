"""The operator's settings: environment variables that begin with ASYNCFLOW_, or the command line."""

from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """How the operator runs. All intervals are in seconds."""

    model_config = SettingsConfigDict(env_prefix="ASYNCFLOW_", frozen=True)

    namespaces: tuple[str, ...] = Field(
        default=(), description="The namespaces to serve, as a JSON list; all if there are none."
    )
    workers: int = Field(
        default=16, ge=1, le=256, description="How many tasks are worked on at the same time."
    )
    resync_seconds: float = Field(
        default=300,
        ge=1,
        description="How often the store is compared with a full list, lest a deletion be missed.",
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Where /healthz and /readyz are served.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    stop_seconds: float = Field(default=10, ge=0, description="How long work under way may take at a stop.")

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if len(set(self.namespaces)) != len(self.namespaces):
            raise ValueError("namespaces: each may be named once")
        return self
