"""Configuration: one frozen, validated object.

Each setting comes from, in this order: the command line, the environment (`RNNSERVE_GRPC_PORT`,
`RNNSERVE_LIMITS__MAX_SESSIONS`), a TOML file, the default below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from server.errors import StartupError


class LimitsConfig(BaseModel):
    """Bounds. A request beyond one is answered RESOURCE_EXHAUSTED, at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_sessions: int = Field(
        default=100_000, ge=1, description="sessions, and rows of state per model"
    )
    max_pending: int = Field(
        default=65_536, ge=1, description="requests without an answer, per model"
    )
    max_pending_per_session: int = Field(
        default=256, ge=1, description="… per session, and per stream"
    )
    max_pending_bytes: int = Field(
        default=2**30, ge=1024, description="what those carry together, per model"
    )
    max_remembered_bytes: int = Field(
        default=2**28, ge=0, description="answers kept for whoever asks again, per model"
    )
    max_resident: int = Field(
        default=0, ge=0, description="rows of state on the device, per model; 0: max_sessions"
    )
    max_message_bytes: int = Field(
        default=64 * 2**20, ge=1024, description="size of one gRPC message"
    )
    max_chunk: int = Field(
        default=0,
        ge=0,
        description="timesteps of a long request that run before others get their turn; 0: as many "
        "as take one row about 0.8 ms",
    )


class ServerConfig(BaseSettings):
    """Everything `rnnserve serve` can be told."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="RNNSERVE_", env_nested_delimiter="__"
    )

    repository: Path = Field(default=Path("repository"), description="directory of models")
    model_control_mode: Literal["none", "poll", "explicit"] = Field(
        default="none",
        description="none: what lies there at the start; poll: and what changes; explicit: on call",
    )
    load_model: tuple[str, ...] = Field(
        default=(), description="with explicit: models to load at the start; * for all"
    )
    repository_poll_s: float = Field(
        default=15.0, gt=0, description="with poll: seconds between two looks"
    )
    exit_on_error: bool = Field(
        default=True, description="do not start if a model cannot be served"
    )
    model_drain_limit_s: float = Field(
        default=300.0,
        ge=0,
        description="seconds that sessions of a model have that is replaced or unloaded",
    )
    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    grpc_port: int = Field(default=8001, ge=0, le=65535, description="0: any free port")
    http_port: int = Field(
        default=8002, ge=0, le=65535, description="health and metrics; 0: any free"
    )
    provider: Literal["auto", "cuda", "cpu"] = Field(default="auto", description="where models run")
    intra_op_threads: int = Field(
        default=1, ge=0, description="per model; 0: ONNX Runtime's choice"
    )
    engine_thread: Literal["auto", "own", "shared"] = Field(
        default="auto", description="own threads per model or the event loop's; auto measures"
    )
    transport: Literal["auto", "http2", "grpcio", "native"] = Field(
        default="auto",
        description="auto: http2, ours, where h2 is installed, else grpcio; native: extra fast",
    )
    processes: int = Field(
        default=1, ge=1, le=256, description="that share the port; every limit is of each"
    )
    caller_header: str = Field(
        default="rnnserve-caller",
        description="header whose value gives a caller sequence ids of its own; empty: none",
    )
    shared_memory: Literal["local", "all", "off"] = Field(
        default="local",
        description="whose tensors may lie in shared memory: of clients on this host, of all",
    )
    drain_limit_s: float = Field(
        default=30.0, ge=0, description="seconds that SIGTERM leaves to sessions"
    )
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    limits: LimitsConfig = LimitsConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(file: Path | None = None, **given: Any) -> ServerConfig:
    """The configuration from the given settings (None: not given), the environment and `file`.

    Raises StartupError with one line that names the setting.
    """
    if file is not None and not file.is_file():
        raise StartupError(f"configuration file {file}: no such file")

    class Configured(ServerConfig):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        return Configured(
            **_nested({key: value for key, value in given.items() if value is not None})
        )
    except ValidationError as invalid:
        raise StartupError(_one_line(invalid)) from None
    except SettingsError as broken:  # RNNSERVE_LIMITS is no JSON
        raise StartupError(f"environment: {broken}") from None
    except ValueError as broken:  # the file is no TOML
        raise StartupError(f"configuration file {file}: {broken}") from None


def _nested(given: dict[str, Any]) -> dict[str, Any]:
    """Move the settings that belong to `limits` there."""
    limits = {key: given.pop(key) for key in list(given) if key in LimitsConfig.model_fields}
    return {**given, "limits": limits} if limits else given


def _one_line(invalid: ValidationError) -> str:
    first = invalid.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return f"setting {name}: {first['msg']}, got {first['input']!r}"
