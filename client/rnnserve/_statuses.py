"""How a call ended, as an exception."""

from __future__ import annotations

from typing import Protocol

import grpc

from rnnserve.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    LimitReached,
    ModelNotFound,
    ModelNotReady,
    RnnserveError,
    SessionClosed,
    SessionExists,
    SessionExpired,
    SessionNotFound,
    ShuttingDown,
    SnapshotRefused,
    StepConflict,
    StepFailed,
    StepForgotten,
    StepGap,
    TimeoutExpired,
    Unavailable,
    Unsupported,
)

_BY_KIND: dict[str, type[RnnserveError]] = {
    kind.__name__: kind
    for kind in (
        InvalidRequest,
        ModelNotFound,
        ModelNotReady,
        SessionNotFound,
        SessionExpired,
        SessionClosed,
        SessionExists,
        LimitReached,
        TimeoutExpired,
        ShuttingDown,
        StepFailed,
        StepGap,
        StepConflict,
        StepForgotten,
        SnapshotRefused,
        InternalError,
        Unsupported,
    )
}

# Where no kind is given (a proxy, another server) and the code alone leaves no doubt.
_BY_CODE: dict[grpc.StatusCode, type[RnnserveError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.ALREADY_EXISTS: SessionExists,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitReached,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,  # from the other side: a server or proxy that stops
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}

# How gRPC words it, under various codes, that a connection or a call was cut off.
_CUT = ("RST_STREAM", "Stream removed")

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Status(Protocol):
    """How a call ended: what the errors of grpc and of grpc.aio have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    # an iterable of (key, value); the two libraries' types for it differ
    def trailing_metadata(self) -> object: ...


def from_call(status: Status, target: str, timeout_s: float | None) -> RnnserveError:
    """The exception for a call to `target` that ended with an error."""
    metadata = _entries(status.trailing_metadata())
    code, details = status.code(), status.details() or ""
    kind = metadata.get("rnnserve-error", "")
    if not kind and any(sign in details for sign in _CUT):
        code = grpc.StatusCode.UNAVAILABLE
    error = from_status(code, kind, details)
    hint(error, metadata.get("retry-after-s"), metadata.get("expected-step"))
    if isinstance(error, Unavailable):
        advice = "is the server running? Start one with `rnnserve serve --repository DIR`"
        return Unavailable(f"no answer from {target}: {advice} ({details})", code, details)
    if isinstance(error, DeadlineExceeded) and timeout_s is not None:
        message = f"no answer from {target} within {timeout_s:g} s"
        return DeadlineExceeded(message, code, details)
    return error


def from_status(code: int | grpc.StatusCode, kind: str, details: str) -> RnnserveError:
    """The exception for an error of the given kind; without one, the code decides."""
    status = code if isinstance(code, grpc.StatusCode) else _CODES.get(code)
    by_code = _BY_CODE.get(status, RnnserveError) if status else RnnserveError
    name = status.name if status else str(code)
    text = details or f"the server answered {name}"
    return _BY_KIND.get(kind, by_code)(text, status, details, kind)


def hint(error: RnnserveError, retry_after_s: object, expected_step: object) -> None:
    """Gives the error what the server has said beside its text; what is no number says nothing."""
    if isinstance(error, LimitReached):
        error.retry_after_s = _number(retry_after_s, error.retry_after_s)
    elif isinstance(error, StepGap):
        error.expected_step = int(_number(expected_step, error.expected_step))


def _entries(metadata: object) -> dict[str, str]:
    pairs = metadata if isinstance(metadata, (tuple, list)) else _iterate(metadata)
    return {key: value for key, value in pairs if isinstance(value, str)}


def _iterate(metadata: object) -> list[tuple[str, str | bytes]]:
    return list(metadata) if hasattr(metadata, "__iter__") else []


def _number(said: object, default: float) -> float:
    try:
        return float(said) if isinstance(said, (str, int, float)) and said else default
    except ValueError:
        return default
