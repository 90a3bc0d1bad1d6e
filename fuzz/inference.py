"""Requests for inferences: right ones, and right ones that were spoiled in one place or several.

What is far from right is refused at the first glance; the longer a request looks right, the more of
the server it sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuzz import odd
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random
    from typing import TypeAlias

    Spoil: TypeAlias = Callable[[Random, pb.ModelInferRequest], None]

MODELS = ("fold", "double")
MAX_ROWS, MAX_TIMESTEPS, FEATURES = 4, 5, 2
DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "BF16", "FP32", "FP64", "BYTES", "", "int64", "TYPE_INT64", "INT128", "x" * 300),
)
SIZES = (0, 1, 2, 3, 4, 5, 8, 1000, -1, -2, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63))
PARAMETERS = (
    *("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "rnnserve_step"),
    *("rnnserve_states_of", "triton_enable_empty_final_response", "triton_other", "triton_", ""),
    *("custom", "binary_data_output", "rnnserve_wish", "SEQUENCE_ID", "max_tokens"),
)
OF_TENSORS = (
    *("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"),
    *("classification", "binary_data", "binary_data_size", "custom", ""),
)
LIKELY = {
    "shared_memory_region": pb.InferParameter(string_param="region"),
    "shared_memory_offset": pb.InferParameter(int64_param=0),
    "shared_memory_byte_size": pb.InferParameter(int64_param=16),
    "classification": pb.InferParameter(int64_param=2),
}
FIELDS = tuple(field.name for field in pb.InferTensorContents.DESCRIPTOR.fields)


def right(rng: Random, ids: Sequence[int | str], model: str = "") -> pb.ModelInferRequest:
    """What a client might send that knows the model: of one of these sequences, any part of it."""
    request = pb.ModelInferRequest(model_name=model or rng.choice(MODELS), id=f"{rng.random()}")
    request.model_version = rng.choice(("", "", "1", "2")) if request.model_name == "fold" else ""
    shape = [rng.randrange(1, MAX_ROWS + 1), rng.randrange(1, MAX_TIMESTEPS + 1), FEATURES]
    size = 8 * shape[0] * shape[1] * shape[2]
    request.inputs.add(name="x", datatype="INT64", shape=shape)
    request.raw_input_contents.append(rng.randbytes(size))
    if odd.flag(rng):
        request.outputs.add(name="y")
    in_sequence(request, rng.choice(ids), start=rng.random() < 0.3, end=rng.random() < 0.2)
    return request


def in_sequence(
    request: pb.ModelInferRequest, id: int | str, *, start: bool = False, end: bool = False
) -> None:
    """The parameters as other clients send them."""
    kind = "string_param" if isinstance(id, str) else "uint64_param" if id >= 2**63 else None
    setattr(request.parameters["sequence_id"], kind or "int64_param", id)
    request.parameters["sequence_start"].bool_param = start
    request.parameters["sequence_end"].bool_param = end


def spoiled(rng: Random, request: pb.ModelInferRequest, at_most: int = 3) -> pb.ModelInferRequest:
    """The request with up to so many mistakes, some of which are none."""
    for spoil in rng.choices(SPOILS, k=rng.randrange(1, at_most + 1)):
        spoil(rng, request)
    return request


# ---- contents ------------------------------------------------------------------------------------


def _length(rng: Random, request: pb.ModelInferRequest) -> None:
    if request.raw_input_contents:
        place = rng.randrange(len(request.raw_input_contents))
        raw = request.raw_input_contents[place]
        wrong = (b"", raw[:-1], raw[:8], raw + b"\0", raw + raw, odd.content(rng))
        request.raw_input_contents[place] = rng.choice(wrong)


def _too_few(rng: Random, request: pb.ModelInferRequest) -> None:
    del request.raw_input_contents[:1]


def _too_many(rng: Random, request: pb.ModelInferRequest) -> None:
    request.raw_input_contents.extend([odd.content(rng)[:100]] * rng.choice((1, 2, 1000)))


def _typed(rng: Random, request: pb.ModelInferRequest) -> None:
    """Typed contents instead of raw ones, or beside them, of the right or some other number."""
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=False):
        count = rng.choice((len(raw) // 8, len(raw) // 8, 0, 1, 3))
        for name in (*rng.sample(FIELDS, rng.choice((1, 1, 2))), "int64_contents"):
            if name == "int64_contents" or odd.flag(rng):
                getattr(tensor.contents, name).extend([_element(rng, name)] * count)
    if rng.random() < 0.7:
        del request.raw_input_contents[:]


def _element(rng: Random, field: str) -> bool | int | float | bytes:
    match field:
        case "bool_contents":
            return odd.flag(rng)
        case "bytes_contents":
            return odd.content(rng)[:64]
        case "fp32_contents" | "fp64_contents":
            return rng.choice((0.0, 1.5, float("nan"), float("inf")))
        case "int_contents":
            return rng.choice((0, -1, 2**31 - 1, -(2**31)))
        case "uint_contents":
            return rng.choice((0, 1, 2**32 - 1))
        case "uint64_contents":
            return odd.unsigned(rng)
        case _:
            return odd.number(rng)


def _text_tensor(rng: Random, request: pb.ModelInferRequest) -> None:
    """Of BYTES, in one of its two forms: each element has its length before it, or is typed."""
    for place, tensor in enumerate(request.inputs):
        tensor.datatype = "BYTES"
        if odd.flag(rng) and place < len(request.raw_input_contents):
            lengths = (3, 0, 2**32 - 1)
            elements = (rng.choice(lengths).to_bytes(4, "little") + b"abc" for _ in range(4))
            request.raw_input_contents[place] = b"".join(elements)
        else:
            tensor.contents.bytes_contents.extend([b"abc", b"", odd.content(rng)])
            del request.raw_input_contents[:]


# ---- what tensors say of themselves --------------------------------------------------------------


def _size(rng: Random, request: pb.ModelInferRequest) -> None:
    for tensor in request.inputs[:1]:
        if tensor.shape:
            tensor.shape[rng.randrange(len(tensor.shape))] = rng.choice(SIZES)


def _shape(rng: Random, request: pb.ModelInferRequest) -> None:
    for tensor in request.inputs[:1]:
        sizes = odd.some(rng, SIZES, 6) if rng.random() < 0.95 else [1] * 10_000
        tensor.ClearField("shape")
        tensor.shape.extend(sizes)


def _datatype(rng: Random, request: pb.ModelInferRequest) -> None:
    for tensor in request.inputs:
        tensor.datatype = rng.choice(DATATYPES)


def _name(rng: Random, request: pb.ModelInferRequest) -> None:
    for tensor in request.inputs[:1]:
        tensor.name = odd.text(rng, "y", "h", "h_next", "X", "x ")


def _another_input(rng: Random, request: pb.ModelInferRequest) -> None:
    """The same once more, or one that the model does not have."""
    for tensor in request.inputs[:1]:
        added = request.inputs.add()
        added.CopyFrom(tensor)
        added.name = odd.text(rng, "x", "h", "y")
        if request.raw_input_contents and odd.flag(rng):
            request.raw_input_contents.append(request.raw_input_contents[0])


def _no_inputs(rng: Random, request: pb.ModelInferRequest) -> None:
    request.ClearField("inputs")
    if odd.flag(rng):
        request.ClearField("raw_input_contents")


def _outputs(rng: Random, request: pb.ModelInferRequest) -> None:
    request.ClearField("outputs")
    names = ("y", "y", "y", "h_next", "x", odd.text(rng))
    for _ in range(rng.choice((1, 2, 2, 3))):
        request.outputs.add(name=rng.choice(names))
    if rng.random() < 0.05:
        for _ in range(1000):
            request.outputs.add(name="y")


# ---- parameters ----------------------------------------------------------------------------------


def _parameter(rng: Random, request: pb.ModelInferRequest) -> None:
    name = rng.choice(PARAMETERS) if rng.random() < 0.9 else odd.text(rng)
    request.parameters[name].CopyFrom(_value(rng))


def _id(rng: Random, request: pb.ModelInferRequest) -> None:
    request.parameters["sequence_id"].CopyFrom(_value(rng))


def _step(rng: Random, request: pb.ModelInferRequest) -> None:
    request.parameters["rnnserve_step"].int64_param = rng.choice((0, 1, 1, 2, 3, 4, 9, -1, 2**62))


def _states_of(rng: Random, request: pb.ModelInferRequest) -> None:
    texts = ("fold/", "/", "/1", "fold/1/2", "fold/nobody", "nobody/1", "fold", "double/1")
    name = "rnnserve_states_of"
    request.parameters[name].string_param = odd.text(rng, *texts, "fold/" + "9" * 5000)


def _not_in_a_sequence(rng: Random, request: pb.ModelInferRequest) -> None:
    for name in rng.sample(("sequence_id", "sequence_start", "sequence_end"), rng.randrange(1, 4)):
        if name in request.parameters:
            del request.parameters[name]


def _of_tensors(rng: Random, request: pb.ModelInferRequest) -> None:
    """Shared memory, classification and the like, of any kind."""
    if not request.outputs:
        request.outputs.add(name="y")
    tensor: Any = rng.choice((*request.inputs, *request.outputs))
    for name in odd.some(rng, OF_TENSORS, 3) or ["classification"]:
        tensor.parameters[name].CopyFrom(
            LIKELY[name] if name in LIKELY and odd.flag(rng) else _value(rng)
        )


def _value(rng: Random) -> pb.InferParameter:
    match rng.choice(pb.InferParameter.DESCRIPTOR.fields).name:
        case "bool_param":
            return pb.InferParameter(bool_param=odd.flag(rng))
        case "int64_param":
            return pb.InferParameter(int64_param=odd.number(rng))
        case "uint64_param":
            return pb.InferParameter(uint64_param=odd.unsigned(rng))
        case "double_param":
            return pb.InferParameter(double_param=odd.real(rng))
        case "string_param" if rng.random() < 0.8:
            return pb.InferParameter(string_param=odd.text(rng))
        case _:
            return pb.InferParameter()


# ---- for whom it is ------------------------------------------------------------------------------


def _model(rng: Random, request: pb.ModelInferRequest) -> None:
    request.model_name = odd.text(rng, "Fold", "fold ", "fold/1", "nobody")


def _version(rng: Random, request: pb.ModelInferRequest) -> None:
    request.model_version = rng.choice(odd.VERSIONS)


def _request_id(rng: Random, request: pb.ModelInferRequest) -> None:
    request.id = odd.text(rng)


def _nothing(rng: Random, request: pb.ModelInferRequest) -> None:
    """Some fields are not there at all, or none is."""
    fields: list[Any] = [field.name for field, _ in request.ListFields()]
    for name in rng.sample(fields, rng.randrange(1, len(fields) + 1)) if fields else ():
        request.ClearField(name)


SPOILS: tuple[Spoil, ...] = (
    *(_length, _too_few, _too_many, _typed, _text_tensor),
    *(_size, _shape, _datatype, _name, _another_input, _no_inputs, _outputs),
    *(_parameter, _id, _step, _states_of, _not_in_a_sequence, _of_tensors),
    *(_model, _version, _request_id, _nothing),
)
