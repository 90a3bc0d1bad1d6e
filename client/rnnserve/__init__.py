"""Sessions with recurrent models that are served elsewhere: the server keeps the hidden state.

>>> import rnnserve
>>> with rnnserve.connect("localhost:8001") as client:
...     with client.session("vowels") as session:
...         for frame in frames:
...             probabilities = session.step(frame)

`rnnserve.aio` has the same names for asyncio; `rnnserve.errors` says what can go wrong.
"""

from rnnserve import aio, errors
from rnnserve._group_base import GroupStepFailed
from rnnserve._retry import Retries
from rnnserve.client import Client, Group, Session, connect
from rnnserve.errors import (
    ClientClosed,
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
from rnnserve.specs import ModelInfo, SessionInfo, TensorSpec

__all__ = [
    "Client",
    "ClientClosed",
    "DeadlineExceeded",
    "Group",
    "GroupStepFailed",
    "InternalError",
    "InvalidRequest",
    "LimitReached",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotReady",
    "Retries",
    "RnnserveError",
    "Session",
    "SessionClosed",
    "SessionExists",
    "SessionExpired",
    "SessionInfo",
    "SessionNotFound",
    "ShuttingDown",
    "SnapshotRefused",
    "StepConflict",
    "StepFailed",
    "StepForgotten",
    "StepGap",
    "TensorSpec",
    "TimeoutExpired",
    "Unavailable",
    "Unsupported",
    "aio",
    "connect",
    "errors",
]
