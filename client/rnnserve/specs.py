"""What the server says of models and sessions, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TC002  (users may resolve the annotations)

from rnnserve._dtypes import DTYPES
from rnnserve.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnserve.v1 import session_pb2 as pb

__all__ = ["ModelInfo", "SessionInfo", "TensorSpec"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model takes, gives or keeps.

    `shape` counts the batch axis, which comes first unless the model has none; -1 is any size.
    `time_axis` is the axis that counts timesteps, None where the tensor has none. An input that
    `has_default` may be left out of a request.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    time_axis: int | None = None
    has_default: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version of a model takes, gives and keeps. If it is not `batched`, its tensors have no
    batch axis. `constants` are what a session gives once, when it is opened.
    """

    model: str
    version: str
    digest: str  # SHA-256 over the model's files, in hexadecimal
    batched: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[TensorSpec, ...]
    constants: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class ModelInfo(Signature):
    """A version of a model as `Client.model()` describes it."""

    max_batch_size: int  # rows that a session may have
    idle_ttl_s: float  # of sessions that ask for nothing else


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as `Client.sessions()` lists it and `Session.describe()` describes it."""

    id: str
    model: str
    version: str
    batch_size: int
    step_count: int
    idle_s: float  # seconds since its last request
    idle_ttl_s: float  # seconds without a request after which it ends
    pending: int = 0  # requests that have no answer yet
    on_host: bool = False  # its state was moved off the device until its next step
    remembered_from: int = 0  # the first step whose answer the server remembers; 0: none is


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
        has_default=message.has_default,
    )


def signature(message: pb.OpenSessionResponse | pb.DescribeModelResponse) -> Signature:
    """Raises Unsupported, as `tensor_specs` does."""
    return Signature(
        model=message.model_name,
        version=message.model_version,
        digest=message.model_digest,
        batched=not message.unbatched,
        inputs=tensor_specs(message.inputs),
        outputs=tensor_specs(message.outputs),
        states=tensor_specs(message.states),
        constants=tensor_specs(message.constants),
    )


def model_info(message: pb.DescribeModelResponse) -> ModelInfo:
    said = signature(message)
    return ModelInfo(
        **{field.name: getattr(said, field.name) for field in fields(said)},
        max_batch_size=message.max_batch_size,
        idle_ttl_s=message.idle_ttl_s,
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
        pending=message.pending,
        on_host=message.on_host,
        remembered_from=message.remembered_from,
    )
