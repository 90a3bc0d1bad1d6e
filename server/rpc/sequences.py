"""Sequences of the Open Inference protocol, which are sessions under another name: the request's
parameters say which sequence it belongs to, and whether it is the first or the last of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from server.errors import InvalidRequest, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.core.session import Session
    from server.serving import ServedModel, Serving
    from server.stubs.inference.grpc_service_pb2 import InferParameter

# The first asks for what only decoupled models do; the others ask a queue for favours that it owes
# nobody: other servers ignore them, too, unless the model's queue is configured to listen.
IGNORED = {"triton_enable_empty_final_response", "priority", "timeout"}
RESERVED_PREFIX = "triton_"


class SequenceId(NamedTuple):
    """A session's id: a sequence id counts within one version of one model."""

    model: str
    version: int
    id: int | str

    def __str__(self) -> str:
        """Where sessions of all models are listed side by side, no two may look the same."""
        return f"sequence {self.id!r} of {self.model}/{self.version}"


@dataclass(frozen=True, slots=True)
class Sequence:
    """Where a request stands in its sequence; without an id it is in none."""

    id: int | str = 0
    start: bool = False
    end: bool = False


WHOLE = Sequence(start=True, end=True)  # of a model without states: every request is all there is


def sequence_of(model: ServedModel, parameters: Mapping[str, InferParameter]) -> Sequence:
    """What the request's parameters say. Raises InvalidRequest for a parameter of the wrong type,
    Unsupported for one that this server does not have.
    """
    id: int | str = 0
    flags = {"sequence_start": False, "sequence_end": False}
    for name, parameter in parameters.items():
        if name == "sequence_id":
            id = _value(name, parameter, "int64_param", "uint64_param", "string_param")
        elif name in flags:
            flags[name] = _value(name, parameter, "bool_param")
        elif name in IGNORED:
            continue
        elif name.startswith(RESERVED_PREFIX):
            raise InvalidRequest(f"request parameter '{name}' is reserved, and unknown")
        else:
            raise Unsupported(f"request parameter '{name}' is not offered by this server")
    if not model.states:
        return WHOLE
    return Sequence(id, flags["sequence_start"], flags["sequence_end"])


def session_of(
    serving: Serving, model: ServedModel, sequence: Sequence, batch_size: int
) -> Session:
    """The session that the request belongs to: opened by START, or for a model without states by
    every request. Raises InvalidRequest, ShuttingDown, LimitReached.
    """
    if not model.states:
        return serving.open(model, id=object(), batch_size=batch_size, idle_ttl_s=float("inf"))
    if not sequence.id:
        raise InvalidRequest(
            f"inference request to model '{model.spec.name}' must specify a non-zero or non-empty "
            "correlation ID"
        )
    key = SequenceId(model.spec.name, model.spec.version, sequence.id)
    session = serving.sessions.find(key)
    if sequence.start:
        return serving.open(model, id=key, batch_size=batch_size, replaces=session)
    if session is None or session.ending:
        raise InvalidRequest(
            f"inference request for sequence {sequence.id} to model '{model.spec.name}' must "
            "specify the START flag on the first request of the sequence" + _hint(serving, key)
        )
    if session.batch_size != batch_size:
        raise InvalidRequest(
            f"sequence {sequence.id} to model '{model.spec.name}' has batch size "
            f"{session.batch_size} since its START, but this request has {batch_size}"
        )
    return session


def _hint(serving: Serving, key: SequenceId) -> str:
    idle_ttl_s = serving.sessions.expired_after_s(key)
    return "" if idle_ttl_s is None else f"; it has expired after {idle_ttl_s:g} s without one"


def _value(name: str, parameter: InferParameter, *kinds: str) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in kinds:
        raise InvalidRequest(
            f"request parameter '{name}' must be one of {', '.join(kinds)}, got {kind}"
        )
    return getattr(parameter, kind)
