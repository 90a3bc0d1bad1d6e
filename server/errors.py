"""Everything that can go wrong by somebody's doing, in one hierarchy.

`RequestError` is for the caller: its text says what was wrong, what was expected and what to do,
and the session is as it was before the request. `StartupError` is for the operator, one line.
Any other exception is a bug.
"""

from __future__ import annotations


class RequestError(Exception):
    """The server refuses or fails a request; no session has changed."""


class InvalidRequest(RequestError):
    """Wrong name, dtype, shape, size or flag."""


class ModelNotFound(RequestError):
    """No such model, or no such version of it."""


class ModelNotReady(RequestError):
    """The model exists but does not serve now."""


class SessionNotFound(RequestError):
    """No such session, or the token is not its own: the answer does not tell which."""


class SessionExpired(RequestError):
    """The session was idle for longer than its time to live."""


class SessionClosed(RequestError):
    """The session was closed before this request's turn came."""


class SessionExists(RequestError):
    """The id that the client chose is taken."""


class LimitReached(RequestError):
    """Too many sessions or too long a queue; worth another try after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TimeoutExpired(RequestError):
    """The request has waited in the model's queue for longer than it may."""


class ShuttingDown(RequestError):
    """The server takes no new sessions any more."""


class StepGap(RequestError):
    """The step is not the session's next one, `expected_step`."""

    def __init__(self, message: str, expected_step: int = 0) -> None:
        super().__init__(message)
        self.expected_step = expected_step


class StepForgotten(RequestError):
    """The step was committed before, and its answer is not remembered any more."""


class StepConflict(RequestError):
    """Another step was committed under that number."""


class SnapshotRefused(RequestError):
    """The snapshot is damaged, or of a model that this server does not have."""


class StepFailed(RequestError):
    """ONNX Runtime could not run the model on this input."""


class InternalError(RequestError):
    """A bug of ours; the log has the traceback."""


class Unsupported(RequestError):
    """The protocol has it, this server has not."""


class OpenInferenceError(RequestError):
    """What only clients of the Open Inference protocol can meet."""


class ModelControlOff(OpenInferenceError):
    """Models are not loaded and unloaded at a client's request."""


class RegionNotFound(OpenInferenceError):
    """No such region of shared memory, or no such segment to make one of."""


class RegionExists(OpenInferenceError):
    """The name is that of another region of shared memory."""


class NotAllowed(OpenInferenceError):
    """The server's configuration does not let this client do that."""


class StartupError(Exception):
    """The server cannot start: configuration, model repository, port."""
