"""A SessionService in memory, and both clients behind one synchronous face.

The fake model "sums" adds up what it sees: state `total += sum(frame) * [1, 2]`, output `totals`
is the state. "pair" has two inputs and two outputs, to tell names apart; "scaled" has a constant
and an input that may be left out; "alone" has no batch axis; "quiet" takes and gives nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest

import rnnserve
from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc as pb_grpc


def tensor(name, array, datatype="FP32"):
    return pb.Tensor(name=name, datatype=datatype, shape=array.shape, contents=array.tobytes())


def array_of(message, dtype=np.float32):
    return np.frombuffer(message.contents, dtype).reshape(tuple(message.shape))


def spec(name, shape, datatype="FP32", time_axis=None, **more):
    return pb.TensorSpec(name=name, datatype=datatype, shape=shape, time_axis=time_axis, **more)


class Sums:
    unbatched = False
    constants = ()
    inputs = (spec("frames", (-1, -1, 3), time_axis=1),)
    outputs = (spec("totals", (-1, -1, 2), time_axis=1),)
    states = (spec("total", (-1, 2)),)

    def run(self, state, inputs):
        per_step = array_of(inputs["frames"]).sum(axis=2)[:, :, None] * np.float32([1, 2])
        totals = state[:, None] + np.cumsum(per_step, axis=1, dtype=np.float32)
        return totals[:, -1], {"totals": totals}


class Pair(Sums):
    """`up` counts frames times `gain` upwards, `down` downwards; `gain` has no time axis."""

    inputs = (spec("frames", (-1, -1, 1), time_axis=1), spec("gain", (-1,), "INT32"))
    outputs = (spec("up", (-1, -1, 1), time_axis=1), spec("down", (-1, 1)))
    states = (spec("total", (-1, 2)),)

    def run(self, state, inputs):
        gain = array_of(inputs["gain"], np.int32).astype(np.float32)
        up = state[:, None, :1] + np.cumsum(
            array_of(inputs["frames"]) * gain[:, None, None], axis=1
        )
        after = np.concatenate([up[:, -1], -up[:, -1]], axis=1).astype(np.float32)
        return after, {"up": up.astype(np.float32), "down": after[:, 1:]}


class Scaled(Sums):
    """Like "sums", of the frames that the mask lets through, times a constant."""

    inputs = (*Sums.inputs, spec("mask", (-1, -1), "BOOL", time_axis=1, has_default=True))
    constants = (spec("gain", (-1, 2), "FP16"),)

    def run(self, state, inputs):
        frames = array_of(inputs["frames"])
        if "mask" in inputs:
            frames = frames * array_of(inputs["mask"], np.bool_)[:, :, None]
        per_step = frames.sum(axis=2)[:, :, None] * array_of(inputs["gain"], np.float16)[:, None]
        totals = state[:, None] + np.cumsum(per_step, axis=1, dtype=np.float32)
        return totals[:, -1], {"totals": totals}


class Alone(Sums):
    """Like "sums", times a number, without a batch axis; `count` is how many frames there were."""

    unbatched = True
    inputs = (spec("frames", (-1, 3), time_axis=0), spec("scale", (), "INT32"))
    outputs = (spec("totals", (-1, 2), time_axis=0), spec("count", ()))
    states = (spec("total", (2,)),)
    constants = (spec("limit", ()),)

    def run(self, state, inputs):
        frames = array_of(inputs["frames"]) * np.float32(array_of(inputs["scale"], np.int32))
        steps = np.minimum(frames.sum(axis=1), array_of(inputs["limit"]))[:, None]
        totals = state + np.cumsum(steps * np.float32([1, 2]), axis=0, dtype=np.float32)
        return totals[-1], {"totals": totals, "count": np.array(len(totals), np.float32)}


class Quiet(Sums):
    inputs = outputs = ()

    def run(self, state, inputs):
        return state + 1, {}


class Texts(Sums):
    """Of a datatype that numpy has no fixed-size dtype for."""

    outputs = (spec("words", (-1, -1), "BYTES", time_axis=1),)


MODELS = {
    "sums": Sums(),
    "pair": Pair(),
    "scaled": Scaled(),
    "alone": Alone(),
    "quiet": Quiet(),
    "texts": Texts(),
}


@dataclass
class Refusal(Exception):
    code: grpc.StatusCode
    kind: str
    message: str
    retry_after_s: str = ""


@dataclass
class Row:
    """A session of the fake server."""

    model: str
    batch_size: int
    token: str
    state: np.ndarray
    constants: dict[str, pb.Tensor]
    step: int = 0


@dataclass
class Fake(pb_grpc.SessionServiceServicer):
    """The server; tests set the attributes to make it misbehave."""

    sessions: dict[str, Row] = field(default_factory=dict)
    refusal: Refusal | None = None  # of every call
    lag: int = 0  # answers of a stream kept back; refusals overtake them
    hang_up_after: int | None = None  # requests of a stream, after which it ends with OK
    abort_after: int | None = None  # the same, with an error
    received: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)  # steps wait for it
    target: str = ""
    opened: pb.OpenSessionRequest | None = None  # the latest session was, with this

    def refuse(self, code, kind="", message="the server's words", retry_after_s=""):
        """Refuses every request from now on."""
        self.refusal = Refusal(code, kind, message, retry_after_s)

    def DescribeModel(self, request, context):
        def describe():
            self._must_be_known(request.model_name)
            signature = self._signature(request.model_name)
            return pb.DescribeModelResponse(max_batch_size=4, idle_ttl_s=60.0, **signature)

        return self._unary(context, "describe", describe)

    def OpenSession(self, request, context):
        return self._unary(context, "open", self._open, request)

    def Step(self, request, context):
        return self._unary(context, "step", self._step, request.session, request)

    def ResetStates(self, request, context):
        return self._unary(context, "reset", self._put_states, pb.ResetStatesResponse, request)

    def SetStates(self, request, context):
        return self._unary(context, "set", self._put_states, pb.SetStatesResponse, request)

    def GetStates(self, request, context):
        def states():
            row = self._find(request.session)
            return pb.GetStatesResponse(states=[tensor("total", row.state)], step=row.step)

        return self._unary(context, "get", states)

    def CloseSession(self, request, context):
        def close():
            row = self._find(request.session)
            del self.sessions[request.session.session_id]
            return pb.CloseSessionResponse(step=row.step)

        return self._unary(context, "close", close)

    def ListSessions(self, request, context):
        names = sorted(
            name for name, row in self.sessions.items() if request.model_name in ("", row.model)
        )
        page = [name for name in names if name > request.page_token][:2]
        return pb.ListSessionsResponse(
            sessions=[self._info(name) for name in page],
            next_page_token=page[-1] if page and page[-1] != names[-1] else "",
        )

    def Stream(self, requests, context):
        keys = {}
        kept = deque()
        for number, request in enumerate(requests):
            if self.hang_up_after == number:
                return
            if self.abort_after == number:
                context.set_trailing_metadata([("rnnserve-error", "ShuttingDown")])
                context.abort(grpc.StatusCode.UNAVAILABLE, "good night")
            answer = self._answer(keys, request)
            if answer.HasField("error"):
                yield answer
            else:
                kept.append(answer)
            while len(kept) > self.lag:
                yield kept.popleft()
        yield from kept

    def _answer(self, keys, request):
        action = request.WhichOneof("action")
        self.received.append(f"stream {action}")
        answer = pb.StreamResponse(request_id=request.request_id, session=request.session)
        try:
            if self.refusal:
                raise self.refusal
            if action == "resume":
                keys[request.session] = request.resume
                answer.open.CopyFrom(self._opened(request.resume))
            else:
                answer.step.CopyFrom(self._step(keys[request.session], request.step))
        except Refusal as refusal:
            answer.error.code = refusal.code.value[0]
            answer.error.kind = refusal.kind
            answer.error.message = refusal.message
            if refusal.retry_after_s:
                answer.error.retry_after_s = float(refusal.retry_after_s)
        return answer

    def _unary(self, context, name, method, *arguments):
        self.received.append(name)
        try:
            if self.refusal:
                raise self.refusal
            return method(*arguments)
        except Refusal as refusal:
            metadata = [("rnnserve-error", refusal.kind)] if refusal.kind else []
            if refusal.retry_after_s:
                metadata.append(("retry-after-s", refusal.retry_after_s))
            context.set_trailing_metadata(metadata)
            context.abort(refusal.code, refusal.message)

    def _open(self, request):
        self._must_be_known(request.model_name)
        name = request.session_id or f"session-{len(self.sessions)}-{time.monotonic_ns()}"
        if name in self.sessions:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, "SessionExists", f"{name} is taken")
        rows = request.batch_size or 1
        shape = (2,) if MODELS[request.model_name].unbatched else (rows, 2)
        state = np.zeros(shape, np.float32)
        if request.HasField("states_of"):
            state = self._find(request.states_of.session).state
        constants = {message.name: message for message in request.constants}
        self.sessions[name] = Row(request.model_name, rows, f"secret-{name}", state, constants)
        self.opened = request
        return self._opened(pb.SessionKey(session_id=name, token=f"secret-{name}"))

    def _opened(self, key):
        row = self._find(key)
        return pb.OpenSessionResponse(
            session=key,
            batch_size=row.batch_size,
            idle_ttl_s=60.0,
            step=row.step,
            **self._signature(row.model),
        )

    def _must_be_known(self, name):
        if name not in MODELS:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "ModelNotFound", "no such model")

    def _signature(self, name):
        model = MODELS[name]
        kinds = ("unbatched", "inputs", "outputs", "states", "constants")
        said = {"model_name": name, "model_version": "1", "model_digest": "ab" * 32}
        return said | {kind: getattr(model, kind) for kind in kinds}

    def _find(self, key):
        row = self.sessions.get(key.session_id)
        if row is None or row.token != key.token:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "SessionNotFound", "no such session")
        return row

    def _step(self, key, request):
        assert self.gate.wait(10)
        row = self._find(key)
        inputs = row.constants | {message.name: message for message in request.inputs}
        if any(b"\x00\x00\x80\x7f" in message.contents for message in inputs.values()):  # infinity
            raise Refusal(grpc.StatusCode.INTERNAL, "StepFailed", "infinity is too much")
        row.state, outputs = MODELS[row.model].run(row.state, inputs)
        row.step += 1
        if not request.return_sequences:
            for spec in MODELS[row.model].outputs:
                if spec.HasField("time_axis"):
                    outputs[spec.name] = outputs[spec.name].take(-1, spec.time_axis)
        return pb.StepResponse(
            outputs=[tensor(name, array) for name, array in outputs.items()],
            states=[tensor("total", row.state)] if request.return_state else [],
            step=row.step,
        )

    def _put_states(self, response, request):
        row = self._find(request.session)
        row.state = (
            array_of(request.states[0]) if request.states else np.zeros_like(row.state)
        ).copy()
        return response(step=row.step)

    def _info(self, name):
        row = self.sessions[name]
        return pb.SessionInfo(
            session_id=name,
            model_name=row.model,
            model_version="1",
            batch_size=row.batch_size,
            step=row.step,
            idle_s=0.5,
            idle_ttl_s=60.0,
        )


@pytest.fixture
def fake():
    """A fake server on a port of its own, `fake.target`."""
    fake = Fake()
    fake.gate.set()
    server = grpc.server(ThreadPoolExecutor(32, thread_name_prefix="fake-server"))
    pb_grpc.add_SessionServiceServicer_to_server(fake, server)
    fake.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield fake
    fake.gate.set()
    server.stop(None).wait()


class Blocking:
    """An object of `rnnserve.aio` whose coroutines are run to their end at once."""

    def __init__(self, target, runner):
        self._target = target
        self._runner = runner

    def __getattr__(self, name):
        value = getattr(self._target, name)
        return value if not callable(value) else lambda *a, **k: self._wrapped(value(*a, **k))

    def __repr__(self):
        return repr(self._target)

    def __enter__(self):
        return self._wrapped(self._target.__aenter__())

    def __exit__(self, *error):
        return self._runner.run(self._target.__aexit__(*error))

    def _wrapped(self, value):
        if inspect.iscoroutine(value):
            return self._wrapped(self._runner.run(value))
        if isinstance(value, rnnserve.aio.Stream):
            return BlockingStream(value, self._runner)
        ours = isinstance(value, (rnnserve.aio.Client, rnnserve.aio.Session))
        return Blocking(value, self._runner) if ours else value


class BlockingStream:
    """A stream of `rnnserve.aio`, iterated step by step."""

    def __init__(self, stream, runner):
        self._stream = stream
        self._runner = runner

    def __iter__(self):
        return self

    def __next__(self):
        output = self._runner.run(self._following())
        if output is None:
            raise StopIteration
        return output

    async def _following(self):
        return await anext(self._stream, None)

    def close(self):
        self._runner.run(self._stream.aclose())


async def _connect_aio(*arguments, **options):
    return rnnserve.aio.connect(*arguments, **options)


def _client_threads():
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith("fake-server") and "_poll_wrapper" not in thread.name
    }


@pytest.fixture(params=["sync", "aio"])
def connect(request):
    """`connect(target, …)` of either client. Afterwards no thread and no task may be left."""
    clients = []
    before = _client_threads()
    with asyncio.Runner() as runner:

        def connect(*arguments, **options):
            if request.param == "sync":
                client = rnnserve.connect(*arguments, **options)
            else:
                client = Blocking(runner.run(_connect_aio(*arguments, **options)), runner)
            clients.append(client)
            return client

        yield connect
        for client in clients:
            client.close()
        assert not asyncio.all_tasks(runner.get_loop())
    deadline = time.monotonic() + 5
    while (left := _client_threads() - before) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not left


@pytest.fixture
def client(fake, connect):
    return connect(fake.target, timeout_s=10)
