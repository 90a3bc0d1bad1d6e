"""Open Inference messages to arrays and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from server.errors import InvalidRequest, Unsupported
from server.rpc import tensors
from server.rpc.states import decode_one
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from server.core.requests import Arrays
    from server.serving import ServedModel

InputTensor: TypeAlias = "pb.ModelInferRequest.InferInputTensor"

# the typed field that carries each datatype when the contents are not raw
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def decode_inputs(
    model: ServedModel, request: pb.ModelInferRequest, batch_size: int | None
) -> tuple[tensors.Inputs, Arrays]:
    """The inputs, and the constants of a session among them. Raises InvalidRequest, Unsupported.

    `batch_size` is that of the session that the request goes on with, if it does.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(
            f"expected {len(request.inputs)} raw input contents for model '{model.spec.name}', "
            f"one per input, got {len(raw)}"
        )
    for tensor in request.inputs:
        if tensor.parameters:
            raise Unsupported(
                f"input '{tensor.name}' has parameters {sorted(tensor.parameters)}, which this "
                "server does not offer; send the contents in the request"
            )
        if raw and tensor.HasField("contents"):
            raise InvalidRequest(
                f"input '{tensor.name}' for model '{model.spec.name}' has contents of its own "
                "although raw_input_contents are given; send one or the other"
            )
    kept = model.constants
    own = [t for t in request.inputs if t.name not in kept] if kept else request.inputs
    accepted = tensors.accept(
        model, tuple([tensors.Described(t.name, t.datatype, (*t.shape,)) for t in own])
    )
    contents = raw or [_typed(model, tensor) for tensor in request.inputs]
    if not kept:
        return tensors.read(model, accepted, contents, batch_size or 1), {}
    pairs = list(zip(request.inputs, contents, strict=True))
    given = [(tensor, content) for tensor, content in pairs if tensor.name in kept]
    rows = accepted.batch_size or batch_size or _rows(model, [tensor for tensor, _ in given])
    inputs = tensors.read(model, accepted, [c for t, c in pairs if t.name not in kept], rows)
    return inputs._replace(batch_size=rows), _constants(model, given, rows)


def wanted_outputs(model: ServedModel, request: pb.ModelInferRequest) -> list[str]:
    """The names of the outputs to return, in order. Raises InvalidRequest, Unsupported."""
    for output in request.outputs:
        if output.name not in model.outputs:
            raise InvalidRequest(
                f"unexpected inference output '{output.name}' for model '{model.spec.name}'"
            )
        if output.parameters:
            raise Unsupported(
                f"output '{output.name}' has parameters {sorted(output.parameters)}, which this "
                "server does not offer"
            )
    return [output.name for output in request.outputs] or list(model.outputs)


def encode(
    model: ServedModel, request_id: str, wanted: Sequence[str], outputs: Arrays
) -> pb.ModelInferResponse:
    response = pb.ModelInferResponse(
        model_name=model.spec.name,
        model_version=str(model.spec.version),
        id=request_id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=name, datatype=model.outputs[name].datatype, shape=outputs[name].shape
            )
            for name in wanted
        ],
        raw_output_contents=[outputs[name].tobytes() for name in wanted],
    )
    response.parameters["triton_final_response"].bool_param = True
    return response


def _rows(model: ServedModel, constants: list[InputTensor]) -> int:
    """The batch size that constants tell. Raises InvalidRequest."""
    rows = constants[0].shape[0] if model.batched and constants and constants[0].shape else 1
    model.check_batch_size(rows)
    return rows


def _constants(
    model: ServedModel, given: Iterable[tuple[InputTensor, bytes]], batch_size: int
) -> dict[str, NDArray[Any]]:
    """Raises InvalidRequest."""
    arrays: dict[str, NDArray[Any]] = {}
    for tensor, content in given:
        if tensor.name in arrays:
            raise InvalidRequest(
                f"input '{tensor.name}' for model '{model.spec.name}' is given twice"
            )
        spec = model.constants[tensor.name]
        arrays[tensor.name] = decode_one(
            model, spec, "input", batch_size, tensor.datatype, tensor.shape, content
        )
    return arrays


def _typed(model: ServedModel, tensor: InputTensor) -> bytes:
    """The bytes of typed contents of an accepted input. Raises InvalidRequest."""
    spec = model.inputs.get(tensor.name) or model.constants[tensor.name]
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    expected = CONTENTS.get(spec.datatype)
    if filled and filled != [expected]:
        raise InvalidRequest(
            f"input '{spec.name}' for model '{model.spec.name}' is {spec.datatype}: expected its "
            f"contents in {expected or 'raw_input_contents'}, got {filled}"
        )
    values = getattr(tensor.contents, expected) if expected else ()
    try:
        return np.array(values, spec.dtype).tobytes()
    except OverflowError as error:
        raise InvalidRequest(
            f"input '{spec.name}' for model '{model.spec.name}': {error}"
        ) from None
