"""How an output travels that is not sent as it is: through shared memory, or as classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from server.errors import InvalidRequest
from server.rpc.classification import classify
from server.rpc.places import KNOWN, Place, check_known, place_of, value_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from server.repository.spec import TensorSpec
    from server.rpc.places import TakeRegions
    from server.serving import ServedModel
    from server.stubs.inference import grpc_service_pb2 as pb

CLASSIFICATION = "classification"
KNOWN_OF_OUTPUTS = {CLASSIFICATION, *KNOWN}


class Way(Protocol):
    def prepare(self, model: ServedModel, rows: int, timesteps: int) -> None:
        """Before the step is made, of so many rows and timesteps. Raises InvalidRequest."""

    def send(
        self,
        output: pb.ModelInferResponse.InferOutputTensor,
        array: NDArray[Any],
    ) -> bytes:
        """The raw contents, after the step; `output` describes `array`. Raises InvalidRequest."""


@dataclass(frozen=True, slots=True)
class InSharedMemory:
    """Written to a place, which is kept for as long as the request lasts."""

    spec: TensorSpec
    place: Place

    def prepare(self, model: ServedModel, rows: int, timesteps: int) -> None:
        """Where the output's size follows from the request, it fits, or the step is not made."""
        region, offset, byte_size = self.place
        nbytes = _nbytes(model, self.spec, rows, timesteps)
        if nbytes > byte_size:
            raise self._too_small(nbytes)
        region.reserve(offset, nbytes or byte_size)

    def send(
        self,
        output: pb.ModelInferResponse.InferOutputTensor,
        array: NDArray[Any],
    ) -> bytes:
        region, offset, byte_size = self.place
        if array.nbytes > byte_size:
            raise self._too_small(
                array.nbytes,
                "; as the model's configuration does not tell the output's size, this was found "
                "after the step was made, and the state has moved on",
            )
        region.write(offset, array)
        return b""

    def _too_small(self, nbytes: int, more: str = "") -> InvalidRequest:
        return InvalidRequest(
            f"shared memory size specified with the request for output '{self.spec.name}' "
            f"({self.place.byte_size} bytes) should be at least {nbytes} bytes to hold the results"
            + more
        )


@dataclass(frozen=True, slots=True)
class AsClasses:
    """The highest elements of each row, whatever axes it has; all of them if `count` is larger."""

    spec: TensorSpec
    count: int
    batched: bool

    def prepare(self, model: ServedModel, rows: int, timesteps: int) -> None:
        if self.spec.dtype.kind not in "iuf":
            raise InvalidRequest(
                f"class result not available for output due to unsupported type "
                f"'{self.spec.datatype}'"
            )

    def send(
        self,
        output: pb.ModelInferResponse.InferOutputTensor,
        array: NDArray[Any],
    ) -> bytes:
        leading = array.shape[:1] if self.batched else ()
        rows = array.reshape(math.prod(leading), -1)
        count = min(self.count, rows.shape[1])
        output.datatype = "BYTES"
        output.ClearField("shape")
        output.shape.extend((*leading, count))
        return classify(rows, count, self.spec.labels)


def way_of(
    model: ServedModel,
    output: pb.ModelInferRequest.InferRequestedOutputTensor,
    regions: TakeRegions,
) -> Way | None:
    """What its parameters ask for; None: nothing else than itself. Raises InvalidRequest,
    Unsupported, RegionNotFound, NotAllowed.
    """
    check_known("output", output, KNOWN_OF_OUTPUTS)
    spec = model.outputs[output.name]
    place = place_of(output, regions)
    if CLASSIFICATION not in output.parameters:
        return place and InSharedMemory(spec, place)
    if place:
        raise InvalidRequest("output can't set both 'shared_memory_region' and 'classification'")
    count = value_of(output, CLASSIFICATION, "int64_param")
    if count < 1:
        raise InvalidRequest(
            f"invalid value for '{CLASSIFICATION}' parameter, expected >= 1, got {count}"
        )
    return AsClasses(spec, count, model.batched)


def _nbytes(model: ServedModel, spec: TensorSpec, rows: int, timesteps: int) -> int:
    """What the output will have, as far as the model's configuration tells; 0: it does not."""
    sizes = list(spec.shape)
    if model.batched:
        sizes[0] = rows
    if spec.time_axis is not None:
        sizes[spec.time_axis] = timesteps
    return 0 if -1 in sizes else math.prod(sizes) * spec.dtype.itemsize
