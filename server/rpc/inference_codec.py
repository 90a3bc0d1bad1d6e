"""Open Inference messages to arrays and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from server.errors import InvalidRequest, Unsupported
from server.rpc import tensors
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server.core.requests import Arrays
    from server.serving import ServedModel

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


def decode_inputs(model: ServedModel, request: pb.ModelInferRequest) -> tensors.Inputs:
    """Raises InvalidRequest, Unsupported."""
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
    accepted = tensors.accept(
        model, tuple([tensors.Described(t.name, t.datatype, (*t.shape,)) for t in request.inputs])
    )
    contents = raw or [_typed(model, tensor) for tensor in request.inputs]
    return tensors.read(model, accepted, contents)


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


def _typed(model: ServedModel, tensor: pb.ModelInferRequest.InferInputTensor) -> bytes:
    """The bytes of typed contents of an accepted input. Raises InvalidRequest."""
    spec = model.inputs[tensor.name]
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
