"""Errors that another process has answered, as exceptions again: the way back of
`server.rpc.status.failure`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from server import errors
from server.rpc.status import STATUS

if TYPE_CHECKING:
    from server.errors import RequestError

_KINDS = {kind.__name__: kind for kind in STATUS}


def error_of(error: grpc.aio.AioRpcError, process: int) -> RequestError:
    """What `process` means by it, or that it is no more."""
    metadata: dict[str, Any] = dict(error.trailing_metadata() or ())
    kind = _KINDS.get(metadata.get("rnnserve-error", ""))
    text = error.details() or ""
    if kind is errors.LimitReached:
        return errors.LimitReached(text, float(metadata["retry-after-s"]))
    if kind is errors.StepGap:
        return errors.StepGap(text, int(metadata["expected-step"]))
    if kind is not None:
        return kind(text)
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return lost(process)
    return errors.InternalError(f"process {process} of this server: {error.code().name}: {text}")


def lost(process: int) -> RequestError:
    return errors.SessionNotFound(
        f"no such session any more: process {process} of this server, which held it, has ended; "
        "open a new one"
    )
