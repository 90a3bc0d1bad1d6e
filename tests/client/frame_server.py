"""A SessionService in memory that knows streams of frames, and can be made to misbehave.

The model "sums" adds up what it sees: state `total += sum(frame) * [1, 2]`, output `totals` is the
state. "pair" has two inputs and two outputs; "scaled" has a constant and an input that may be left
out; "alone" has no batch axis; "texts" gives what numpy has no fixed-size dtype for.

A frame that holds infinity for a session fails for it. Steps are counted, refused and remembered as
session.proto says.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np

from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc as pb_grpc

DTYPES = {"FP32": np.float32, "INT32": np.int32, "BOOL": np.bool_}
REMEMBERED = 64


def tensor(name, array, datatype="FP32"):
    return pb.Tensor(name=name, datatype=datatype, shape=array.shape, contents=array.tobytes())


def array_of(message):
    return np.frombuffer(message.contents, DTYPES[message.datatype]).reshape(tuple(message.shape))


def spec(name, shape, datatype="FP32", time_axis=None, **more):
    return pb.TensorSpec(name=name, datatype=datatype, shape=shape, time_axis=time_axis, **more)


class Sums:
    """`run` gets one session's inputs and makes what it would have alone: (time, …)."""

    unbatched = False
    constants = ()
    inputs = (spec("frames", (-1, -1, 3), time_axis=1),)
    outputs = (spec("totals", (-1, -1, 2), time_axis=1),)
    states = (spec("total", (-1, 2)),)

    def run(self, state, inputs):
        per_step = inputs["frames"].sum(axis=1)[:, None] * np.float32([1, 2])
        totals = state + np.cumsum(per_step, axis=0, dtype=np.float32)
        return totals[-1], {"totals": totals}


class Pair(Sums):
    """`up` counts frames times `gain`; `down`, without a time axis, is its last negative."""

    inputs = (spec("frames", (-1, -1, 1), time_axis=1), spec("gain", (-1,), "INT32"))
    outputs = (spec("up", (-1, -1, 2), time_axis=1), spec("down", (-1, 2)))

    def run(self, state, inputs):
        up = state + np.cumsum(inputs["frames"] * inputs["gain"], axis=0, dtype=np.float32)
        return up[-1], {"up": up, "down": -up[-1]}


class Scaled(Sums):
    inputs = (*Sums.inputs, spec("mask", (-1, -1), "BOOL", time_axis=1, has_default=True))
    constants = (spec("gain", (-1, 2)),)

    def run(self, state, inputs):
        frames = inputs["frames"] * inputs.get("mask", np.True_)[..., None]
        totals = state + np.cumsum(frames.sum(axis=1)[:, None] * inputs["gain"], axis=0)
        return totals[-1].astype(np.float32), {"totals": totals.astype(np.float32)}


class Alone(Sums):
    unbatched = True
    inputs = (spec("frames", (-1, 3), time_axis=0),)
    outputs = (spec("totals", (-1, 2), time_axis=0),)
    states = (spec("total", (2,)),)


class Texts(Sums):
    outputs = (spec("words", (-1, -1), "BYTES", time_axis=1),)


MODELS = {
    "sums": Sums(),
    "pair": Pair(),
    "scaled": Scaled(),
    "alone": Alone(),
    "texts": Texts(),
}


class Refusal(Exception):
    def __init__(self, code, kind, message, **more):
        super().__init__(message)
        self.error = pb.Error(code=code.value[0], kind=kind, message=message, **more)


@dataclass
class Row:
    """A session."""

    model: str
    token: str
    constants: dict[str, np.ndarray]
    state: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))
    step: int = 0
    remembered: dict[int, tuple[bytes, dict[str, np.ndarray]]] = field(default_factory=dict)


@dataclass
class FrameServer(pb_grpc.SessionServiceServicer):
    """`faults` holds, for the requests of all streams in their order, what happens to each:

    - "": nothing;
    - "lose": the stream breaks before the request has an effect;
    - "cut": the stream breaks after it, without the answer;
    - "mute": it has no effect, and nothing more comes over this stream;
    - "hang up": the stream ends before it, with OK;
    - an `Error`: that is the answer.

    `lag` answers to frames are kept back until later ones are there.
    """

    sessions: dict[str, Row] = field(default_factory=dict)
    faults: deque[object] = field(default_factory=deque)
    received: list[str] = field(default_factory=list)
    streams: int = 0
    lag: int = 0
    committed: int = 0  # steps
    gate: threading.Event = field(default_factory=threading.Event)  # requests wait for it
    ending: threading.Event = field(default_factory=threading.Event)
    target: str = ""

    def DescribeModel(self, request, context):
        self.received.append("describe")
        return pb.DescribeModelResponse(**self._signature(request.model_name))

    def Stream(self, requests, context):
        self.streams += 1
        numbers, kept = {}, deque()
        for request in requests:
            action = request.WhichOneof("action")
            self.received.append(action)
            assert self.gate.wait(10)
            fault = self.faults.popleft() if self.faults else ""
            if fault == "hang up":
                return
            if fault == "mute":
                while not self.ending.wait(0.02) and context.is_active():
                    pass
                return
            if fault != "lose":
                kept.append(self._answer(numbers, request, action, fault))
            if fault in ("lose", "cut"):
                context.abort(grpc.StatusCode.UNAVAILABLE, f"{action} was cut off")
            while len(kept) > self.lag or (kept and action != "frame"):
                yield kept.popleft()
        yield from kept

    def _answer(self, numbers, request, action, fault):
        answer = pb.StreamResponse(request_id=request.request_id, session=request.session)
        try:
            if isinstance(fault, pb.Error):
                answer.error.CopyFrom(fault)
            else:
                method = getattr(self, f"_{action}")
                result = method(numbers, request.session, getattr(request, action))
                getattr(answer, action).CopyFrom(result)
        except Refusal as refusal:
            answer.error.CopyFrom(refusal.error)
        return answer

    def _open_many(self, numbers, first, request):
        said = self._signature(request.open.model_name)
        keys = []
        for position in range(request.count):
            key = pb.SessionKey(
                session_id=f"{request.open.session_id}/{position}",
                token=f"{request.open.token}/{position}",
            )
            constants = {message.name: array_of(message)[0] for message in request.open.constants}
            row = self.sessions.setdefault(
                key.session_id, Row(request.open.model_name, key.token, constants)
            )
            assert row.token == key.token
            numbers[first + position] = row
            keys.append(key)
        ttl_s = request.open.idle_ttl_s or 60.0
        opened = pb.OpenSessionResponse(batch_size=1, idle_ttl_s=ttl_s, **said)
        return pb.OpenManyResponse(opened=opened, sessions=keys)

    def _resume_many(self, numbers, first, request):
        answer = pb.ResumeManyResponse()
        steps = np.zeros(len(request.sessions), "<u8")
        for position, key in enumerate(request.sessions):
            row = self.sessions.get(key.session_id)
            if row is None or row.token != key.token:
                no = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "SessionExpired", "it is gone")
                answer.errors.add(position=position, error=no.error)
                continue
            numbers[first + position] = row
            steps[position] = row.step
            said = self._signature(row.model)
            opened = pb.OpenSessionResponse(batch_size=1, idle_ttl_s=60.0, **said)
            answer.opened.CopyFrom(opened)
        answer.steps = steps.tobytes()
        return answer

    def _close_many(self, numbers, first, request):
        rows = [numbers.get(number) for number in np.frombuffer(request.sessions, "<u4").tolist()]
        closed = [name for name, row in self.sessions.items() if any(row is one for one in rows)]
        for name in closed:
            del self.sessions[name]
        return pb.CloseManyResponse(closed=len(closed))

    def _frame(self, numbers, first, frame):
        rows = [numbers.get(number) for number in np.frombuffer(frame.sessions, "<u4").tolist()]
        indices = np.frombuffer(frame.steps, "<u8").tolist()
        inputs = {message.name: array_of(message) for message in frame.inputs}
        assert len(rows) == len(indices)
        assert all(len(array) == len(rows) for array in inputs.values())
        answer, results = pb.FrameResponse(), {}
        steps = np.zeros(len(rows), "<u8")
        for place, (row, index) in enumerate(zip(rows, indices, strict=True)):
            try:
                results[place] = self._step(row, index, {n: a[place] for n, a in inputs.items()})
                steps[place] = index
            except Refusal as refusal:
                answer.errors.add(position=place, error=refusal.error)
        answer.steps = steps.tobytes()
        if not results:
            return answer  # nobody knows of what shape they would be
        model = MODELS[next(row.model for row in rows if row is not None)]
        for output in model.outputs:
            timed = output.HasField("time_axis")
            arrays = {
                place: result[output.name][-1]
                if timed and not frame.return_sequences
                else result[output.name]
                for place, result in results.items()
            }
            shape = next(iter(arrays.values())).shape
            whole = np.zeros((len(rows), *shape), np.float32)
            for place, array in arrays.items():
                whole[place] = array
            answer.outputs.append(tensor(output.name, whole))
        return answer

    def _step(self, row, index, inputs):
        if row is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "SessionNotFound", "no such number")
        shown = b"".join(array.tobytes() for array in inputs.values())
        if index in row.remembered:
            seen, outputs = row.remembered[index]
            if seen != shown:
                raise Refusal(
                    grpc.StatusCode.FAILED_PRECONDITION, "StepConflict", f"{index} was another"
                )
            return outputs
        if index <= row.step:
            raise Refusal(grpc.StatusCode.OUT_OF_RANGE, "StepForgotten", f"{index} is long ago")
        if index > row.step + 1:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "StepGap",
                f"{index} is not the next step, which is {row.step + 1}",
                expected_step=row.step + 1,
            )
        if any(np.isinf(array).any() for array in inputs.values()):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "StepFailed", "infinity is too much")
        row.state, outputs = MODELS[row.model].run(row.state, row.constants | inputs)
        row.step = index
        row.remembered[index] = (shown, outputs)
        row.remembered.pop(index - REMEMBERED, None)
        self.committed += 1
        return outputs

    def _signature(self, name):
        if name not in MODELS:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "ModelNotFound", "no such model")
        model = MODELS[name]
        kinds = ("unbatched", "inputs", "outputs", "states", "constants")
        said = {"model_name": name, "model_version": "1", "model_digest": "ab" * 32}
        return said | {kind: getattr(model, kind) for kind in kinds}


@contextmanager
def serving():
    """A server on a port of its own, `target`."""
    servicer = FrameServer()
    servicer.gate.set()
    threads = ThreadPoolExecutor(32, thread_name_prefix="fake-server")
    server = grpc.server(threads)
    pb_grpc.add_SessionServiceServicer_to_server(servicer, server)
    servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield servicer
    finally:
        servicer.gate.set()
        servicer.ending.set()
        server.stop(None).wait()
        threads.shutdown()
