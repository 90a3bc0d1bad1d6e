"""How a call ends whose client must not go on with it."""

from __future__ import annotations

import grpc

from server.rpc.status import Failure


class Refused(Exception):
    """The client must not go on with this call; `failure` is how it ends."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def too_large(what: str, size: int | str, limit: int) -> Failure:
    """In grpcio's words."""
    text = f"SERVER: {what} message larger than max ({size} vs. {limit})"
    return Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, text, ())


NOT_ONE = Failure(
    grpc.StatusCode.INTERNAL, "exactly one message is expected in a call of this method", ()
)
CUT = Failure(grpc.StatusCode.INTERNAL, "the stream ends within a message", ())
BAD_FLAG = Failure(
    grpc.StatusCode.INTERNAL, "a message begins with neither 0 nor 1: compressed or not", ()
)
