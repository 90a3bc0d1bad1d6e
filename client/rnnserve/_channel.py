"""How a channel is made: what both clients say to gRPC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Options = list[tuple[str, Any]]

DEFAULT_TIMEOUT_S = 30.0

# Steps of a stream that may be under way: enough to hide the way to the server and back, few
# enough to lose little when the consumer leaves.
DEFAULT_WINDOW = 16

# Servers with gRPC's own settings hang up on clients that ping more often than every 300 s.
_KEEPALIVE_MS = 320_000

_DEFAULTS: dict[str, Any] = {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    "grpc.keepalive_time_ms": _KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 5_000,
}


def options(extra: Sequence[tuple[str, Any]]) -> Options:
    """gRPC channel arguments; `extra` wins."""
    return list({**_DEFAULTS, **dict(extra)}.items())


def check_target(target: str) -> str:
    """`target` if it looks like an address; ValueError for what gRPC would misread."""
    if "://" in target and target.split("://")[0] in ("http", "https"):
        raise ValueError(f"expected 'host:port' without http://, given {target!r}")
    if ":" not in target:
        raise ValueError(f"expected 'host:port', given {target!r}")
    return target
