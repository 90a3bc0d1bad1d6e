"""Open Inference messages to arrays and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from server.errors import InvalidRequest
from server.rpc import tensors
from server.rpc.places import check_known, place_of
from server.rpc.states import decode_one
from server.rpc.ways import way_of
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from server.core.requests import Arrays
    from server.rpc.places import Place, TakeRegions
    from server.rpc.ways import Way
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

# How often a request may ask for an output: as it is, as classes, in shared memory. Without a bound
# a few bytes would ask for an answer of any size.
MAX_TIMES = 3


def decode_inputs(
    model: ServedModel,
    request: pb.ModelInferRequest,
    batch_size: int | None,
    regions: TakeRegions,
) -> tuple[tensors.Inputs, Arrays]:
    """The inputs, and the constants of a session among them: those in shared memory as they are
    there now. Raises InvalidRequest, Unsupported, RegionNotFound, NotAllowed.

    `batch_size` is that of the session that the request goes on with, if it does.
    """
    raw = request.raw_input_contents
    places: dict[str, Place] = {}
    for tensor in request.inputs:
        if tensor.parameters and (place := _place(model, tensor, regions)):
            places[tensor.name] = place
        elif raw and tensor.HasField("contents"):
            raise InvalidRequest(
                f"input '{tensor.name}' for model '{model.spec.name}' has contents of its own "
                "although raw_input_contents are given; send one or the other"
            )
    if raw and len(raw) != len(request.inputs) - len(places):
        raise InvalidRequest(
            f"expected {len(request.inputs) - len(places)} raw input contents for model "
            f"'{model.spec.name}', one per input that is not in shared memory, got {len(raw)}"
        )
    kept = model.constants
    own = [t for t in request.inputs if t.name not in kept] if kept else request.inputs
    accepted = tensors.accept(
        model, tuple([tensors.Described(t.name, t.datatype, (*t.shape,)) for t in own])
    )
    contents: Sequence[bytes] = raw
    if places or not raw:
        contents = list(_contents(model, request, places))
    _check_rows(model, accepted.batch_size)
    if not kept:
        return tensors.read(model, accepted, contents, batch_size or 1), {}
    pairs = list(zip(request.inputs, contents, strict=True))
    given = [(tensor, content) for tensor, content in pairs if tensor.name in kept]
    rows = accepted.batch_size or batch_size or _rows(model, [tensor for tensor, _ in given])
    inputs = tensors.read(model, accepted, [c for t, c in pairs if t.name not in kept], rows)
    return inputs._replace(batch_size=rows), _constants(model, given, rows)


def wanted_outputs(
    model: ServedModel, request: pb.ModelInferRequest, regions: TakeRegions
) -> tuple[list[str], dict[int, Way]]:
    """The names of the outputs to return, in order, and the ways of some, by position. Raises
    InvalidRequest, Unsupported, RegionNotFound, NotAllowed.
    """
    ways = {}
    if len(request.outputs) > MAX_TIMES * len(model.outputs):
        raise InvalidRequest(
            f"expected at most {MAX_TIMES * len(model.outputs)} outputs to be asked of model "
            f"'{model.spec.name}', {MAX_TIMES} times each that it has, got {len(request.outputs)}"
        )
    for position, output in enumerate(request.outputs):
        if output.name not in model.outputs:
            raise InvalidRequest(
                f"unexpected inference output '{output.name}' for model '{model.spec.name}'"
            )
        if output.parameters and (way := way_of(model, output, regions)):
            ways[position] = way
    return [output.name for output in request.outputs] or list(model.outputs), ways


def encode(
    model: ServedModel,
    request_id: str,
    names: Sequence[str],
    ways: Mapping[int, Way],
    outputs: Arrays,
) -> pb.ModelInferResponse:
    """Raises InvalidRequest where an output cannot go the way that was asked for."""
    response = pb.ModelInferResponse(
        model_name=model.spec.name,
        model_version=str(model.spec.version),
        id=request_id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=name, datatype=model.outputs[name].datatype, shape=outputs[name].shape
            )
            for name in names
        ],
        raw_output_contents=[] if ways else [outputs[name].tobytes() for name in names],
    )
    if ways:
        response.raw_output_contents.extend(
            ways[position].send(described, outputs[described.name])
            if position in ways
            else outputs[described.name].tobytes()
            for position, described in enumerate(response.outputs)
        )
    response.parameters["triton_final_response"].bool_param = True
    return response


def _check_rows(model: ServedModel, rows: int) -> None:
    """Raises InvalidRequest where they are more than the model takes."""
    largest = model.scheduler.limits.max_batch_size
    if rows > largest:
        raise InvalidRequest(
            f"inference request batch-size must be <= {largest} for '{model.spec.name}', got {rows}"
        )


def _rows(model: ServedModel, constants: list[InputTensor]) -> int:
    """The batch size that constants tell. Raises InvalidRequest."""
    rows = constants[0].shape[0] if model.batched and constants and constants[0].shape else 1
    _check_rows(model, rows)
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


def _place(model: ServedModel, tensor: InputTensor, regions: TakeRegions) -> Place | None:
    """Where in shared memory the input is, if it is there."""
    check_known("input", tensor)
    place = place_of(tensor, regions)
    if place and tensor.HasField("contents"):
        raise InvalidRequest(
            "unexpected 'content' provided when using shared memory for input tensor "
            f"'{tensor.name}' for model '{model.spec.name}'"
        )
    return place


def _contents(
    model: ServedModel, request: pb.ModelInferRequest, places: Mapping[str, Place]
) -> Iterator[bytes]:
    """The bytes of accepted inputs, wherever they are. Raises InvalidRequest."""
    raw = iter(request.raw_input_contents)
    for tensor in request.inputs:
        place = places.get(tensor.name)
        if place is not None:
            yield _shared(model, tensor, place)
        elif request.raw_input_contents:
            yield next(raw)
        else:
            yield _typed(model, tensor)


def _shared(model: ServedModel, tensor: InputTensor, place: Place) -> bytes:
    """A copy: from now on the client may change what is there. Raises InvalidRequest."""
    spec = model.inputs.get(tensor.name) or model.constants[tensor.name]
    nbytes = math.prod(tensor.shape) * spec.dtype.itemsize
    if place.byte_size != nbytes:
        raise tensors.wrong_size(model, "input", spec.name, nbytes, place.byte_size)
    most = model.scheduler.limits.max_pending_bytes
    if nbytes > most:
        raise InvalidRequest(
            f"input '{spec.name}' for model '{model.spec.name}' has {nbytes} bytes in shared "
            f"memory, more than all requests that wait may have (max_pending_bytes: {most})"
        )
    return place.region.read(place.offset, nbytes)


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
