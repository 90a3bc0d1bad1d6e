"""Sessions with recurrent models that are served elsewhere: the server keeps the hidden state.

>>> import rnnserve
>>> with rnnserve.connect("localhost:8001") as client:
...     with client.session("vowels") as session:
...         for frame in frames:
...             probabilities = session.step(frame)

`rnnserve.aio` has the same names for asyncio; `rnnserve.errors` says what can go wrong.
"""

from rnnserve import aio, errors
from rnnserve.client import Client, Session, connect
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
    StepFailed,
    Unavailable,
    Unsupported,
)
from rnnserve.specs import ModelInfo, SessionInfo, TensorSpec

__all__ = [
    "Client",
    "ClientClosed",
    "DeadlineExceeded",
    "InternalError",
    "InvalidRequest",
    "LimitReached",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotReady",
    "RnnserveError",
    "Session",
    "SessionClosed",
    "SessionExists",
    "SessionExpired",
    "SessionInfo",
    "SessionNotFound",
    "ShuttingDown",
    "StepFailed",
    "TensorSpec",
    "Unavailable",
    "Unsupported",
    "aio",
    "connect",
    "errors",
]
