"""What the server says of models and sessions, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TC002  (users may resolve the annotations)

from rnnserve._dtypes import DTYPES
from rnnserve.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnserve.v1 import session_pb2 as pb

__all__ = ["SessionInfo", "TensorSpec"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model takes, gives or keeps.

    `shape` counts the batch axis, which comes first; -1 is any size. `time_axis` is the axis that
    counts timesteps, None where the tensor has none.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    time_axis: int | None = None


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as `Client.sessions()` lists it."""

    id: str
    model: str
    version: str
    batch_size: int
    step_count: int
    idle_s: float  # seconds since its last request
    idle_ttl_s: float  # seconds without a request after which it ends


def tensor_specs(messages: Iterable[pb.TensorSpec]) -> tuple[TensorSpec, ...]:
    """Raises Unsupported where a tensor's datatype has no numpy dtype here."""
    return tuple(_tensor_spec(message) for message in messages)


def _tensor_spec(message: pb.TensorSpec) -> TensorSpec:
    if message.datatype not in DTYPES:
        raise Unsupported(f"tensor {message.name!r}: no numpy dtype for {message.datatype!r}")
    return TensorSpec(
        name=message.name,
        dtype=DTYPES[message.datatype],
        shape=tuple(message.shape),
        time_axis=message.time_axis if message.HasField("time_axis") else None,
    )


def session_info(message: pb.SessionInfo) -> SessionInfo:
    return SessionInfo(
        id=message.session_id,
        model=message.model_name,
        version=message.model_version,
        batch_size=message.batch_size,
        step_count=message.step,
        idle_s=message.idle_s,
        idle_ttl_s=message.idle_ttl_s,
    )
