"""One inference of the Open Inference protocol: a step of the sequence that it belongs to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from server.core.requests import Step, Stepped
from server.errors import RequestError, SessionClosed
from server.rpc import inference_codec, places, sequences
from server.rpc.calls import Outstanding
from server.rpc.status import expected
from server.serving import home_of
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from server.core.requests import Result
    from server.core.session import Session
    from server.rpc.handover import Source
    from server.rpc.places import TakeRegions
    from server.rpc.replies import Slot
    from server.serving import ServedModel, Serving


class Inference:
    """One ModelInferRequest, decoded and checked. `scope`: whose sequence ids they are; `regions`
    gives the shared memory that the caller may use. Raises RequestError.

    A sequence goes on where it has begun, although its model was replaced meanwhile; a new one
    begins with the version that serves now.
    """

    def __init__(
        self, serving: Serving, request: pb.ModelInferRequest, scope: str, regions: TakeRegions
    ) -> None:
        self._serving = serving
        self._id = request.id
        name, version = request.model_name, request.model_version
        homes = serving.catalogue.homes(name, version)
        sequence = sequences.sequence_of(request.parameters, scope)
        self._found = sequences.find_session(serving, homes, sequence)
        goes_on = None if sequence.start else self._found
        self._model = home_of(goes_on) if goes_on else serving.model(name, version)
        self._sequence = sequences.with_model(sequence, self._model)
        self._wanted, self._ways = inference_codec.wanted_outputs(self._model, request, regions)
        inputs, self._constants = inference_codec.decode_inputs(
            self._model, request, goes_on.batch_size if goes_on else None, regions
        )
        for way in self._ways.values():
            rows = inputs.batch_size or (goes_on.batch_size if goes_on else 1)
            way.prepare(self._model, rows, inputs.timesteps)
        self._batch_size = inputs.batch_size
        self.source: Source | None = None
        self.known: Stepped | RequestError | None = None
        self.step = Step(
            inputs=inputs.arrays,
            timesteps=inputs.timesteps,
            shapes=inputs.shapes,
            nbytes=inputs.nbytes,
            start=self._sequence.start,
            end=self._sequence.end,
            index=self._sequence.step,
            begins_with=sequences.beginning(self._sequence, self._constants),
        )
        if (wish := self._sequence.wish) is not None:
            self.step.priority, self.step.timeout_s = wish
        if self._sequence.step:
            self._look_for_the_same(homes)
        if self._sequence.start and self.known is None:
            self._find_source()
        if self._model.constants:
            names = [tensor.name for tensor in request.inputs]
            sequences.check_constants(self._model, self._sequence, goes_on, self._constants, names)

    def _find_source(self) -> None:
        self.source = sequences.source_of(
            self._serving, self._model, self._sequence, self._batch_size or 1
        )
        if self.source and not self._constants:
            self._constants = self.source.constants or {}

    def _look_for_the_same(self, homes: Iterable[ServedModel]) -> None:
        """A numbered request may have come before: it belongs to the sequence that it has begun
        then, or has its answer although it has ended the sequence.
        """
        if self._found is None:
            self.known = sequences.last_answer(self._serving, homes, self._sequence, self.step)
        elif (
            self._sequence.start
            and home_of(self._found) is self._model
            and sequences.has_begun_with(self._found, self.step)
        ):
            self._sequence = replace(self._sequence, start=False)
            self.step.start = False

    def session(self) -> Session:
        """The session to submit the step to, opened if the step is its first."""
        session = sequences.session_of(
            self._serving, self._model, self._sequence, self._batch_size, self._found
        )
        if self._sequence.start and self._constants:
            session.constants = self._constants
        return session

    def encode(self, result: Result) -> pb.ModelInferResponse:
        """The answering message. Raises the result if it is an error.

        Where the START that it waited for was cancelled or has failed, or an END came first, it is
        as if the request had come without.
        """
        if isinstance(result, SessionClosed):
            ended = sequences.hint(self._serving, self._sequence.key(self._model))
            why = ended or "; the one that it waited behind was cancelled, has failed or was an END"
            raise sequences.no_start(self._model, self._sequence, why)
        if isinstance(result, RequestError):
            raise result
        assert isinstance(result, Stepped)
        return inference_codec.encode(
            self._model, self._id, self._wanted, self._ways, result.outputs
        )


class InferenceStream:
    """The inferences of one stream. `ends_at_error`: it ends with the status of the first one that
    fails, where others tell of it in an answer.
    """

    def __init__(
        self, serving: Serving, scope: str, regions: TakeRegions, *, ends_at_error: bool = False
    ) -> None:
        self._serving = serving
        self._scope = scope
        self._regions = regions
        self._ends_at_error = ends_at_error
        self._outstanding = Outstanding()

    def handle(
        self, request: pb.ModelInferRequest, slot: Slot[pb.ModelStreamInferResponse]
    ) -> None:
        """Begin one inference; its answer, or error, goes to `slot`."""
        try:
            self.begin(request, slot)
        except Exception as error:
            self.refuse(request, slot, error)

    def refuse(
        self,
        request: pb.ModelInferRequest,
        slot: Slot[pb.ModelStreamInferResponse],
        error: Exception,
    ) -> None:
        """The request has failed."""
        slot.fill(error if self._ends_at_error else failed(request.id, error))

    def begin(self, request: pb.ModelInferRequest, slot: Slot[pb.ModelStreamInferResponse]) -> None:
        """The same, but what cannot begin is raised."""
        inference = Inference(self._serving, request, self._scope, self._regions)

        def answer(result: Result) -> None:
            try:
                said = pb.ModelStreamInferResponse(infer_response=inference.encode(result))
            except Exception as error:
                return self.refuse(request, slot, error)
            slot.fill(said)

        if inference.known is not None:
            return answer(inference.known)
        self._outstanding.submit(inference.session(), inference.step, answer, inference.source)

    def vouch(self, request: pb.ModelInferRequest) -> None:
        """It may be passed on. Raises NotAllowed."""
        places.vouch(request, self._regions)

    def cancel(self) -> None:
        """The stream is over: what has not run will not."""
        self._outstanding.cancel()


def failed(request_id: str, error: Exception) -> pb.ModelStreamInferResponse:
    return pb.ModelStreamInferResponse(
        error_message=str(expected(error)), infer_response=pb.ModelInferResponse(id=request_id)
    )
