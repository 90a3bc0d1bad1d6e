"""States and constants of a session, between the wire and the engine.

The engine holds `(batch_size, *shape)` of each; so does the wire, but for models without a batch
axis, whose tensors are plain `shape` there. Constants lie beside the states in the engine's rows:
whoever writes the states of a session that has constants writes those, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnnserve.v1 import session_pb2 as pb
from server.errors import InvalidRequest
from server.rpc.tensors import shown, wrong_size
from server.serving import home_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from server.core.requests import Arrays
    from server.core.session import Session
    from server.repository.spec import StateSpec
    from server.serving import ServedModel


def decode_states(
    model: ServedModel, batch_size: int, messages: Iterable[pb.Tensor]
) -> dict[str, NDArray[Any]] | None:
    """All states of the model, or None if there are no messages. Raises InvalidRequest."""
    arrays = _decode(model, model.states, "state", batch_size, messages)
    if arrays and len(arrays) != len(model.states):
        raise InvalidRequest(
            f"expected the states {list(model.states)} of model '{model.spec.name}', "
            f"got {list(arrays)}; give all of them or none"
        )
    return arrays or None


def decode_constants(
    model: ServedModel, batch_size: int, messages: Iterable[pb.Tensor]
) -> dict[str, NDArray[Any]]:
    """All constants of the model. Raises InvalidRequest."""
    arrays = _decode(model, model.constants, "constant", batch_size, messages)
    if len(arrays) != len(model.constants):
        raise InvalidRequest(
            f"model '{model.spec.name}' has the constants {list(model.constants)}, which a session "
            f"gives when it is opened, got {list(arrays)}; give all of them"
        )
    return arrays


def decode_one(
    model: ServedModel,
    spec: StateSpec,
    kind: str,
    batch_size: int,
    datatype: str,
    shape: Sequence[int],
    contents: bytes,
) -> NDArray[Any]:
    """A state or constant of all rows, `(batch_size, *shape)`. Raises InvalidRequest."""
    rows = (batch_size, *spec.shape)
    expected = rows if model.batched else spec.shape
    if datatype != spec.datatype:
        raise InvalidRequest(
            f"inference {kind} '{spec.name}' data-type is '{datatype}', but model "
            f"'{model.spec.name}' expects '{spec.datatype}'"
        )
    if tuple(shape) != expected:
        raise InvalidRequest(
            f"unexpected shape for {kind} '{spec.name}' for model '{model.spec.name}'. Expected "
            f"{shown(expected)}, got {shown(shape)}"
        )
    if spec.nbytes * batch_size != len(contents):
        raise wrong_size(model, kind, spec.name, spec.nbytes * batch_size, len(contents))
    return np.frombuffer(contents, spec.dtype).reshape(rows)


def encode_states(model: ServedModel, arrays: Arrays) -> list[pb.Tensor]:
    """The states among what the engine has read."""
    return _encode(model, model.spec.states, arrays)


def encode_constants(model: ServedModel, arrays: Arrays) -> list[pb.Tensor]:
    """The constants among what the engine has read."""
    return _encode(model, model.spec.constants, arrays)


def to_write(session: Session, states: Arrays | None) -> Arrays | None:
    """What the engine has to write so that the session has these states, or with None the model's
    initial ones; None if nothing.
    """
    if not session.constants:
        return states
    given = _initial(session) if states is None else states
    return {**given, **session.constants}


def _encode(model: ServedModel, specs: Iterable[StateSpec], arrays: Arrays) -> list[pb.Tensor]:
    return [
        pb.Tensor(
            name=spec.name,
            datatype=spec.datatype,
            shape=array.shape if model.batched else array.shape[1:],
            contents=array.tobytes(),
        )
        for spec in specs
        for array in (arrays[spec.name],)
    ]


def _initial(session: Session) -> dict[str, NDArray[Any]]:
    return {
        state.name: np.repeat(state.initial[None], session.batch_size, axis=0)
        for state in home_of(session).spec.states
    }


def _decode(
    model: ServedModel,
    specs: Mapping[str, StateSpec],
    kind: str,
    batch_size: int,
    messages: Iterable[pb.Tensor],
) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for message in messages:
        spec = _named(model, specs, message.name, kind)
        if spec.name in arrays:
            raise InvalidRequest(
                f"{kind} '{spec.name}' for model '{model.spec.name}' is given twice"
            )
        arrays[spec.name] = decode_one(
            model, spec, kind, batch_size, message.datatype, message.shape, message.contents
        )
    return arrays


def _named(model: ServedModel, specs: Mapping[str, StateSpec], name: str, kind: str) -> StateSpec:
    """The spec of that name, or the only one if none is given. Raises InvalidRequest."""
    spec = next(iter(specs.values())) if not name and len(specs) == 1 else specs.get(name)
    if spec is None:
        raise InvalidRequest(
            f"unexpected inference {kind} '{name}' for model '{model.spec.name}', "
            f"which has {list(specs)}"
        )
    return spec
