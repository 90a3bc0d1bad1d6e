"""What can go wrong, as exceptions.

The server names the kind of an error; the class of that name is raised, with the server's own
words as its text. Unless a class says otherwise, the session is as it was before the request.

Arguments that cannot be right (a shape, a dtype, a name) never leave the client: they raise
`ValueError` or `TypeError`.
"""

from __future__ import annotations

from typing import Protocol

import grpc

__all__ = [
    "ClientClosed",
    "DeadlineExceeded",
    "InternalError",
    "InvalidRequest",
    "LimitReached",
    "ModelNotFound",
    "ModelNotReady",
    "RnnserveError",
    "SessionClosed",
    "SessionExists",
    "SessionExpired",
    "SessionNotFound",
    "ShuttingDown",
    "StepFailed",
    "Unavailable",
    "Unsupported",
]


class RnnserveError(Exception):
    """A request failed. `code` is the gRPC status, None where the client itself found the error.

    `details` is the server's text, unchanged.
    """

    code: grpc.StatusCode | None

    def __init__(
        self, message: str, code: grpc.StatusCode | None = None, details: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = message if details is None else details


class InvalidRequest(RnnserveError):
    """Wrong name, dtype, shape, size or flag."""


class ModelNotFound(RnnserveError):
    """No such model, or no such version of it."""


class ModelNotReady(RnnserveError):
    """The model exists but does not serve now."""


class SessionNotFound(RnnserveError):
    """No such session, or the token is not its own: the server does not tell which."""


class SessionExpired(RnnserveError):
    """The session was idle for longer than its time to live; its state is gone."""


class SessionClosed(RnnserveError):
    """The session was closed, by this client or while the request waited."""


class SessionExists(RnnserveError):
    """The id that was asked for is taken."""


class LimitReached(RnnserveError):
    """Too many sessions, or too long a queue; worth another try after `retry_after_s` seconds."""

    retry_after_s: float = 1.0


class ShuttingDown(RnnserveError):
    """The server takes no new sessions any more."""


class StepFailed(RnnserveError):
    """The model could not be run on this input."""


class InternalError(RnnserveError):
    """A bug of the server's; its log has more."""


class Unsupported(RnnserveError):
    """The protocol has it, this server has not."""


class Unavailable(RnnserveError):
    """No server answers there, or the connection broke.

    Whether a step that was under way was committed is not known; `step_count` after
    `get_states()` tells.
    """


class DeadlineExceeded(RnnserveError):
    """No answer within `timeout_s` seconds.

    Whether a step that was under way was committed is not known; `step_count` after
    `get_states()` tells.
    """


class ClientClosed(RnnserveError):
    """The client was closed, before the request or while it was under way."""


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
        ShuttingDown,
        StepFailed,
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
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}

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
    error = from_status(code, metadata.get("rnnserve-error", ""), details)
    if isinstance(error, LimitReached):
        error.retry_after_s = _seconds(metadata.get("retry-after-s"), error.retry_after_s)
    if isinstance(error, Unavailable):
        hint = "is the server running? Start one with `rnnserve serve --repository DIR`"
        return Unavailable(f"no answer from {target}: {hint} ({details})", code, details)
    if isinstance(error, DeadlineExceeded) and timeout_s is not None:
        message = f"no answer from {target} within {timeout_s:g} s"
        return DeadlineExceeded(message, code, details)
    return error


def from_status(code: int | grpc.StatusCode, kind: str, details: str) -> RnnserveError:
    """The exception for an error of the given kind; without one, the code decides."""
    status = code if isinstance(code, grpc.StatusCode) else _CODES.get(code)
    by_code = _BY_CODE.get(status, RnnserveError) if status else RnnserveError
    name = status.name if status else str(code)
    return _BY_KIND.get(kind, by_code)(details or f"the server answered {name}", status, details)


def _entries(metadata: object) -> dict[str, str]:
    pairs = metadata if isinstance(metadata, (tuple, list)) else _iterate(metadata)
    return {key: value for key, value in pairs if isinstance(value, str)}


def _iterate(metadata: object) -> list[tuple[str, str | bytes]]:
    return list(metadata) if hasattr(metadata, "__iter__") else []


def _seconds(text: str | None, default: float) -> float:
    try:
        return default if text is None else float(text)
    except ValueError:
        return default
