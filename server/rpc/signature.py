"""What SessionService says of a model, and of a session that is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from rnnserve.v1 import session_pb2 as pb
from server.serving import home_of

if TYPE_CHECKING:
    from server.core.session import Session
    from server.repository.spec import StateSpec, TensorSpec
    from server.serving import ServedModel


class Signature(TypedDict):
    """The fields that both messages have."""

    model_name: str
    model_version: str
    model_digest: str
    unbatched: bool
    inputs: list[pb.TensorSpec]
    outputs: list[pb.TensorSpec]
    states: list[pb.TensorSpec]
    constants: list[pb.TensorSpec]


def opened(session: Session) -> pb.OpenSessionResponse:
    """All that a client has to know of its session."""
    return pb.OpenSessionResponse(
        session=pb.SessionKey(session_id=str(session.id), token=session.token),
        batch_size=session.batch_size,
        idle_ttl_s=session.idle_ttl_s,
        step=session.step,
        **_signature(home_of(session)),
    )


def described(model: ServedModel) -> pb.DescribeModelResponse:
    return pb.DescribeModelResponse(
        max_batch_size=model.scheduler.limits.max_batch_size,
        idle_ttl_s=model.spec.idle_s,
        **_signature(model),
    )


def _signature(model: ServedModel) -> Signature:
    spec = model.spec
    return Signature(
        model_name=spec.name,
        model_version=str(spec.version),
        model_digest=spec.digest,
        unbatched=not model.batched,
        inputs=[_tensor(tensor) for tensor in spec.inputs],
        outputs=[_tensor(tensor) for tensor in spec.outputs],
        states=[_kept(model, state) for state in spec.states],
        constants=[_kept(model, constant) for constant in spec.constants],
    )


def _tensor(tensor: TensorSpec) -> pb.TensorSpec:
    return pb.TensorSpec(
        name=tensor.name,
        datatype=tensor.datatype,
        shape=tensor.shape,
        time_axis=tensor.time_axis,
        has_default=tensor.default is not None,
    )


def _kept(model: ServedModel, state: StateSpec) -> pb.TensorSpec:
    shape = (-1, *state.shape) if model.batched else state.shape
    return pb.TensorSpec(name=state.name, datatype=state.datatype, shape=shape)
