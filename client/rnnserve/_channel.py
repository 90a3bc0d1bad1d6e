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

# A connection that does not answer is given up after these: pings while calls are under way, and
# the system's own limit for what is sent. rnnserve's server takes such pings; where another, behind
# which it may stand, complains, gRPC pings less often by itself.
_KEEPALIVE_MS = 10_000
_KEEPALIVE_TIMEOUT_MS = 5_000

_DEFAULTS: dict[str, Any] = {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    "grpc.keepalive_time_ms": _KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": _KEEPALIVE_TIMEOUT_MS,
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.min_reconnect_backoff_ms": 2_000,  # how long connecting may take
    "grpc.max_reconnect_backoff_ms": 1_000,
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
