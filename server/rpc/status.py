"""Errors on the wire: one table from our exceptions to gRPC status codes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
import structlog

from server import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger()

STATUS: dict[type[errors.RequestError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ModelNotReady: grpc.StatusCode.UNAVAILABLE,
    errors.SessionNotFound: grpc.StatusCode.NOT_FOUND,
    errors.SessionExpired: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SessionClosed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SessionExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.LimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    errors.StepGap: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StepForgotten: grpc.StatusCode.OUT_OF_RANGE,
    errors.StepConflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SnapshotRefused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.StepFailed: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InternalError: grpc.StatusCode.INTERNAL,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
}

MAX_TEXT_BYTES = 2000  # travels percent-encoded in the headers, of which clients take 8 KiB

Service = TypeVar("Service")
Request = TypeVar("Request")
Response = TypeVar("Response")


def code_of(error: errors.RequestError) -> grpc.StatusCode:
    return STATUS[type(error)]


def expected(error: Exception) -> errors.RequestError:
    """The error as the caller may see it: anything that is not ours to explain is logged."""
    if isinstance(error, errors.RequestError):
        return error
    log.error("request failed", exc_info=error)
    return errors.InternalError("internal error; the session is as it was; see the server's log")


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """End the call with the error's status. The trailing metadata names its kind and, where another
    try is worth it, when.
    """
    shown = expected(error)
    metadata = [("rnnserve-error", type(shown).__name__)]
    if isinstance(shown, errors.LimitReached):
        metadata.append(("retry-after-s", f"{shown.retry_after_s:g}"))
    await context.abort(code_of(shown), _fitting(str(shown)), tuple(metadata))


def _fitting(text: str) -> str:
    """The text, cut where it quotes something of any length from the request."""
    if len(text) <= MAX_TEXT_BYTES // 4:  # bytes of a character, at most
        return text
    encoded = text.encode()
    if len(encoded) <= MAX_TEXT_BYTES:
        return text
    return encoded[:MAX_TEXT_BYTES].decode(errors="ignore") + " …"


def answers_errors(
    method: Callable[
        [Service, Request, grpc.aio.ServicerContext[Request, Response]], Awaitable[Response]
    ],
) -> Callable[[Service, Request, grpc.aio.ServicerContext[Request, Response]], Awaitable[Response]]:
    """A unary method whose exceptions become statuses."""

    @functools.wraps(method)
    async def answering(
        service: Service, request: Request, context: grpc.aio.ServicerContext[Request, Response]
    ) -> Response:
        try:
            return await method(service, request, context)
        except Exception as error:
            await abort(context, error)

    return answering
