"""The client's end of a SessionService stream, and frames as a client makes and reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np

from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBERS, STEPS = np.dtype("<u4"), np.dtype("<u8")


class Stream:
    """Every answer is looked up by the request that it is for."""

    def __init__(self, rig: Any) -> None:
        self.rig = rig
        self.call = rig.sessions.Stream()
        self._requests = 0
        self._answers: dict[int, pb.StreamResponse] = {}

    async def send(self, session: int = 0, **action: Any) -> int:
        self._requests += 1
        request = pb.StreamRequest(request_id=self._requests, session=session, **action)
        await self.call.write(request)
        return self._requests

    async def step(self, session: int, x: Any, **fields: Any) -> int:
        inputs = [self.rig.tensor("x", np.asarray(x))]
        return await self.send(session, step=pb.StepRequest(inputs=inputs, **fields))

    async def answer(self, request_id: int) -> pb.StreamResponse:
        while request_id not in self._answers:
            answer = await self.call.read()
            assert answer is not grpc.aio.EOF, f"no answer to request {request_id}"
            self._answers[answer.request_id] = answer
        return self._answers.pop(request_id)

    async def ask(self, session: int = 0, **action: Any) -> pb.StreamResponse:
        return await self.answer(await self.send(session, **action))

    async def refused(
        self, code: grpc.StatusCode, kind: str, session: int = 0, **action: Any
    ) -> pb.Error:
        answer = await self.ask(session, **action)
        assert (answer.error.code, answer.error.kind) == (code.value[0], kind), answer
        return answer.error

    async def open_many(self, first: int, count: int, model: str = "fold", **fields: Any) -> Any:
        """The answer, which must be one."""
        wanted = pb.OpenSessionRequest(model_name=model, **fields)
        asked = pb.OpenManyRequest(open=wanted, count=count)
        answer = await self.ask(first, open_many=asked)
        assert answer.WhichOneof("result") == "open_many", answer
        return answer.open_many

    async def frame(self, numbers: Iterable[int], x: Any, **fields: Any) -> Framed:
        """One frame of "fold" and its answer."""
        answer = await self.ask(frame=frame(self.rig, numbers, {"x": x}, **fields))
        return framed(self.rig, answer)

    async def end(self) -> None:
        """Close our half; the server must close its own without another word."""
        await self.call.done_writing()
        assert await self.call.read() is grpc.aio.EOF
        assert await self.call.code() is grpc.StatusCode.OK


class Framed(NamedTuple):
    """What a frame has brought: `outputs` by name, `steps` of each session, errors by position."""

    outputs: dict[str, Any]
    steps: list[int]
    errors: dict[int, pb.Error]

    @property
    def kinds(self) -> dict[int, str]:
        return {position: error.kind for position, error in self.errors.items()}


def column(*numbers: int) -> bytes:
    """Sessions' numbers."""
    return np.array(numbers, NUMBERS).tobytes()


def frame(
    rig: Any, numbers: Iterable[int], inputs: dict[str, Any], steps: Any = (), **fields: Any
) -> pb.Frame:
    """`steps`: one for each session, or one for all of them."""
    numbers = list(numbers)
    tensors = [rig.tensor(name, np.asarray(array)) for name, array in inputs.items()]
    if np.ndim(steps) == 0:
        steps = [steps] * len(numbers)
    return pb.Frame(
        sessions=column(*numbers),
        steps=np.array(steps, STEPS).tobytes(),
        inputs=tensors,
        **fields,
    )


def framed(rig: Any, answer: pb.StreamResponse) -> Framed:
    assert answer.WhichOneof("result") == "frame", answer
    said = answer.frame
    errors = {each.position: each.error for each in said.errors}
    assert list(errors) == sorted(errors)
    return Framed(rig.arrays_of(said.outputs), np.frombuffer(said.steps, STEPS).tolist(), errors)


def all_rows_are_free(rig: Any, model: str = "fold") -> bool:
    """Nobody holds anything any more: rows, working rows, places in queues."""
    ledger = rig.serving.model(model).scheduler.ledger
    held = (ledger.reserved_rows, ledger.working_rows, ledger.pending, ledger.pending_bytes)
    return held == (0, 0, 0, 0) and ledger.rows.free == ledger.rows.size - 1
