"""What can go wrong, as exceptions.

The server names the kind of an error; the class of that name is raised, with the server's own
words as its text. Unless a class says otherwise, the session is as it was before the request.

Arguments that cannot be right (a shape, a dtype, a name) never leave the client: they raise
`ValueError` or `TypeError`.
"""

from __future__ import annotations

import grpc  # noqa: TC002  (users may resolve the annotations)

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
    "SnapshotRefused",
    "StepConflict",
    "StepFailed",
    "StepForgotten",
    "StepGap",
    "TimeoutExpired",
    "Unavailable",
    "Unsupported",
]


class RnnserveError(Exception):
    """A request failed. `code` is the gRPC status, None where the client itself found the error.

    `details` is the server's text, unchanged. `kind` is the server's name for what went wrong,
    empty where the server has not answered.
    """

    code: grpc.StatusCode | None

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode | None = None,
        details: str | None = None,
        kind: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = message if details is None else details
        self.kind = kind


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


class TimeoutExpired(RnnserveError):
    """The request has waited at the server for longer than the model's configuration lets it."""


class ShuttingDown(RnnserveError):
    """The server takes no new sessions any more."""


class StepFailed(RnnserveError):
    """The model could not be run on this input."""


class StepGap(RnnserveError):
    """The session has not come as far as the step's number says: `expected_step` is the next one.

    Seen in the loop over a stream whose own step has failed before, and where the server has lost
    steps. This one has not run.
    """

    expected_step: int = 0


class StepConflict(RnnserveError):
    """This step has not run: another one, with other inputs, was committed in its place.

    That is the step of an earlier call (or somebody else's) whose answer has not come. This is said
    once: the session counts it from here on, and the next call goes on after it.
    """


class StepForgotten(RnnserveError):
    """This step has not run: one of its number was committed so long ago, that its answer is gone.

    The next call goes on after the session's last step.
    """


class SnapshotRefused(RnnserveError):
    """The snapshot is damaged, or not one of this model."""


class InternalError(RnnserveError):
    """A bug of the server's; its log has more."""


class Unsupported(RnnserveError):
    """The protocol has it, this server has not."""


class Unavailable(RnnserveError):
    """No server answers there, or the connection broke.

    Attempts are made again until the call's `timeout_s` has passed, unless the client has never had
    an answer. Whether a step that was under way was committed is not known: the session's next
    `step` finds out, and with the same inputs it is that very step.
    """


class DeadlineExceeded(RnnserveError):
    """No answer within `timeout_s` seconds, all attempts together.

    Whether a step that was under way was committed is not known: the session's next `step` finds
    out, and with the same inputs it is that very step.
    """


class ClientClosed(RnnserveError):
    """The client was closed, before the request or while it was under way."""
