"""Errors on the wire: one table from our exceptions to gRPC status codes."""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import grpc
import structlog

from server import errors

log = structlog.get_logger()

STATUS: dict[type[errors.RequestError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ModelNotReady: grpc.StatusCode.UNAVAILABLE,
    errors.SessionNotFound: grpc.StatusCode.NOT_FOUND,
    errors.SessionExpired: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SessionClosed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SessionExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.RegionNotFound: grpc.StatusCode.NOT_FOUND,
    errors.RegionExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    errors.LimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TimeoutExpired: grpc.StatusCode.UNAVAILABLE,
    errors.ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    errors.StepGap: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StepForgotten: grpc.StatusCode.OUT_OF_RANGE,
    errors.StepConflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SnapshotRefused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.StepFailed: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InternalError: grpc.StatusCode.INTERNAL,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.ModelControlOff: grpc.StatusCode.UNAVAILABLE,
}

MAX_TEXT_BYTES = 2000  # travels percent-encoded in the headers, of which clients take 8 KiB


def code_of(error: errors.RequestError) -> grpc.StatusCode:
    return STATUS[type(error)]


def expected(error: Exception) -> errors.RequestError:
    """The error as the caller may see it: anything that is not ours to explain is logged."""
    if isinstance(error, errors.RequestError):
        return error
    log.error("request failed", exc_info=error)
    return errors.InternalError("internal error; the session is as it was; see the server's log")


class Failure(NamedTuple):
    """How a call ends that fails. The trailing metadata names the kind of the error and, where
    another try is worth it, when.
    """

    code: grpc.StatusCode
    text: str
    metadata: tuple[tuple[str, str], ...]


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """End the call with the error's status."""
    await context.abort(*failure(error))


def failure(error: Exception) -> Failure:
    shown = expected(error)
    metadata = [("rnnserve-error", type(shown).__name__)]
    if isinstance(shown, errors.LimitReached):
        metadata.append(("retry-after-s", f"{shown.retry_after_s:g}"))
        metadata.append(("grpc-retry-pushback-ms", f"{shown.retry_after_s * 1000:.0f}"))
    if isinstance(shown, errors.StepGap):
        metadata.append(("expected-step", str(shown.expected_step)))
    return Failure(code_of(shown), _fitting(str(shown)), tuple(metadata))


def _fitting(text: str) -> str:
    """The text, cut where it quotes something of any length from the request."""
    if len(text) <= MAX_TEXT_BYTES // 4:  # bytes of a character, at most
        return text
    encoded = text.encode()
    if len(encoded) <= MAX_TEXT_BYTES:
        return text
    return encoded[:MAX_TEXT_BYTES].decode(errors="ignore") + " …"
