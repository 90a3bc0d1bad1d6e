"""Where in shared memory a tensor is, as the parameters of a request's input or output say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from server.errors import InvalidRequest, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from server.shared_memory import Region, Regions
    from server.stubs.inference import grpc_service_pb2 as pb

    Tensor: TypeAlias = (
        "pb.ModelInferRequest.InferInputTensor | pb.ModelInferRequest.InferRequestedOutputTensor"
    )
    # those that the caller may use; raises NotAllowed
    TakeRegions: TypeAlias = Callable[[], Regions]

REGION = "shared_memory_region"
OFFSET = "shared_memory_offset"
BYTE_SIZE = "shared_memory_byte_size"
OF_HTTP = "binary_data", "binary_data_size"  # say how JSON and bytes mix: here all are bytes
KNOWN = {REGION, OFFSET, BYTE_SIZE, *OF_HTTP}


class Place(NamedTuple):
    """`byte_size` bytes of the region, from `offset` on: they are in it."""

    region: Region
    offset: int
    byte_size: int


def place_of(tensor: Tensor, regions: TakeRegions) -> Place | None:
    """None where it is not in shared memory. Raises InvalidRequest, RegionNotFound, NotAllowed."""
    given = tensor.parameters
    if REGION not in given:
        for name in (OFFSET, BYTE_SIZE):
            if name in given:
                raise InvalidRequest(
                    f"'{name}' can not be specified without '{REGION}' parameter for tensor "
                    f"'{tensor.name}'"
                )
        return None
    if BYTE_SIZE not in given:
        raise InvalidRequest(
            f"'{BYTE_SIZE}' must be specified along with '{REGION}' parameter for tensor "
            f"'{tensor.name}'"
        )
    name = value_of(tensor, REGION, "string_param")
    offset = value_of(tensor, OFFSET, "int64_param") if OFFSET in given else 0
    byte_size = value_of(tensor, BYTE_SIZE, "int64_param")
    region = regions().find(name)
    region.check(offset, byte_size)
    return Place(region, offset, byte_size)


def vouch(request: pb.ModelInferRequest, regions: TakeRegions) -> None:
    """For a request that is passed on to where nobody asks whose it is. Raises NotAllowed where it
    names shared memory that its caller may not use.
    """
    tensors: list[Tensor] = [*request.inputs, *request.outputs]
    if any(REGION in tensor.parameters for tensor in tensors):
        regions()


def check_known(kind: str, tensor: Tensor, known: Collection[str] = KNOWN) -> None:
    """No parameter is ignored that might mean something. Raises Unsupported."""
    unknown = sorted(set(tensor.parameters).difference(known))
    if unknown:
        raise Unsupported(
            f"{kind} '{tensor.name}' has parameters {unknown}, which this server does not offer; "
            f"it knows {sorted(known)}"
        )


def value_of(tensor: Tensor, name: str, kind: str) -> Any:
    """Raises InvalidRequest."""
    parameter = tensor.parameters[name]
    if parameter.WhichOneof("parameter_choice") != kind:
        raise InvalidRequest(
            f"invalid value type for '{name}' parameter for tensor '{tensor.name}', expected "
            f"{kind}."
        )
    return getattr(parameter, kind)
