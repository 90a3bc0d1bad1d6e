"""Both services on a real gRPC server in the test's own loop, over real models and engines.

The model "fold" computes `h = 3 * h + x` in 64-bit integers, which wrap around: exact for ever, and
any step that is lost, doubled or out of turn shows in every later answer. Of "untold", the same
graph, nobody says which axes are time. "mixed" has states of three types and fails on demand,
"affine" has no state, and names for the classes of its output.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc as pb_grpc
from server.config import LimitsConfig, ServerConfig
from server.control import ModelControl
from server.core.requests import Read
from server.engine.engine import Engine
from server.repository.load import load
from server.rpc.calls import begin
from server.rpc.inference_service import InferenceService
from server.rpc.registration import add_to_server
from server.rpc.session_service import SessionService
from server.serving import ServedModel, Serving, limits_of
from server.stubs.inference import grpc_service_pb2 as oip
from server.stubs.inference import grpc_service_pb2_grpc as oip_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from server.core.ledger import Limits
    from server.repository.spec import ModelSpec
    from server.shared_memory import Policy

TRANSPORT = os.environ.get("RNNSERVE_TEST_TRANSPORT", "http2")  # or grpcio, native
MAX_MESSAGE_BYTES = 4 * 2**20  # of a message: grpcio's own
LIMITS = LimitsConfig(max_sessions=50, max_pending_per_session=32, max_chunk=4)
INSTANCES = 2  # that the engines have, at most

FOLD_CONFIG = """\
name: "fold"
max_batch_size: 8
version_policy { all { } }
input [ { name: "x" data_type: TYPE_INT64 dims: [ -1, 2 ] } ]
output [ { name: "y" data_type: TYPE_INT64 dims: [ -1, 2 ] } ]
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  oldest { }
  state [ { input_name: "h" output_name: "h_next" data_type: TYPE_INT64 dims: [ 2 ] } ]
}
parameters { key: "rnnserve.time_axis.x" value { string_value: "1" } }
parameters { key: "rnnserve.time_axis.y" value { string_value: "1" } }
parameters { key: "rnnserve.may_be_cut" value { string_value: "true" } }
"""
UNTOLD_CONFIG = FOLD_CONFIG.partition("parameters")[0].replace('"fold"', '"untold"')
MIXED_CONFIG = """\
name: "mixed"
max_batch_size: 8
input [
  { name: "x" data_type: TYPE_FP32 dims: [ 2 ] },
  { name: "place" data_type: TYPE_INT64 dims: [ ] }
]
output [
  { name: "y" data_type: TYPE_FP32 dims: [ 2 ] },
  { name: "count_next" data_type: TYPE_INT64 dims: [ ] }
]
sequence_batching {
  state [
    { input_name: "total" output_name: "total_next" data_type: TYPE_FP32 dims: [ 2 ] },
    { input_name: "count" output_name: "count_next" data_type: TYPE_INT64 dims: [ ] }
  ]
}
"""
AFFINE_CONFIG = """\
name: "affine"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]
"""
WHOLE_CONFIG = 'name: "whole"\n'  # no batch axis: everything else is taken from the graph

WIRE = {
    np.dtype(np.int64): "INT64",
    np.dtype(np.int32): "INT32",
    np.dtype(np.uint16): "UINT16",
    np.dtype(np.float16): "FP16",
    np.dtype(np.float32): "FP32",
    np.dtype(np.float64): "FP64",
    np.dtype(np.bool_): "BOOL",
}
NUMPY = {name: dtype for dtype, name in WIRE.items()}


def fold(x: NDArray[Any], h: Any = 0) -> NDArray[np.int64]:
    """What the model does to `x`, (batch, time, 2), from state `h`: every timestep's state."""
    state = np.broadcast_to(np.asarray(h, np.int64), (x.shape[0], 2))
    with np.errstate(over="ignore"):
        steps = [state := 3 * state + x[:, t] for t in range(x.shape[1])]
    return np.stack(steps, axis=1)


def fold_model(factor: int = 3) -> onnx.ModelProto:
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["h_in", "three"], ["tripled"]),
            helper.make_node("Add", ["tripled", "x_t"], ["h_out"]),
            helper.make_node("Identity", ["h_out"], ["y_t"]),
        ],
        "body",
        [_int64("h_in", "batch", 2), _int64("x_t", "batch", 2)],
        [_int64("h_out", "batch", 2), _int64("y_t", "batch", 2)],
    )
    scan = helper.make_node(
        "Scan",
        ["h", "x"],
        ["h_next", "y"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_output_axes=[1],
    )
    return _model(
        "fold",
        [scan],
        [_int64("x", "batch", "time", 2), _int64("h", "batch", 2)],
        [_int64("y", "batch", "time", 2), _int64("h_next", "batch", 2)],
        three=np.array(factor),
    )


def mixed_model() -> onnx.ModelProto:
    """`total` += x + table[place], `count` += 1, `y` is `total` afterwards. Places other than 0 and
    1 fail the run when `count` is through.
    """
    nodes = [
        helper.make_node("Add", ["count", "one"], ["count_next"]),
        helper.make_node("Gather", ["table", "place"], ["offset"]),
        helper.make_node("Add", ["x", "offset"], ["step"]),
        helper.make_node("Add", ["total", "step"], ["total_next"]),
        helper.make_node("Identity", ["total_next"], ["y"]),
    ]
    inputs = [_float("x"), _int64("place", "batch"), _float("total"), _int64("count", "batch")]
    outputs = [_float("y"), _float("total_next"), _int64("count_next", "batch")]
    table = np.array([[0, 0], [10, 20]], np.float32)
    return _model("mixed", nodes, inputs, outputs, one=np.array(1), table=table)


def affine_model() -> onnx.ModelProto:
    """`y` = 2 * x + 1."""
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "one"], ["y"]),
    ]
    two, one = np.float32(2), np.float32(1)
    return _model("affine", nodes, [_float("x")], [_float("y")], two=two, one=one)


def whole_model() -> onnx.ModelProto:
    """`total` (a scalar) = the sum of `x`, a vector of any length."""
    node = helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0)
    return _model("whole", [node], [_int64("x", "length")], [_int64("total")])


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    **constants: Any,
) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2])


def _int64(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, list(shape))


def tensor(name: str, array: Any, **changes: Any) -> pb.Tensor:
    """`array` on SessionService's wire; `changes` replace fields."""
    array = np.asarray(array)
    fields = {
        "name": name,
        "datatype": WIRE[array.dtype],
        "shape": array.shape,
        "contents": array.tobytes(),
    }
    return pb.Tensor(**(fields | changes))


def array_of(message: pb.Tensor) -> NDArray[Any]:
    return np.frombuffer(message.contents, NUMPY[message.datatype]).reshape(tuple(message.shape))


def arrays_of(messages: Any) -> dict[str, NDArray[Any]]:
    return {message.name: array_of(message) for message in messages}


def infer(
    model: str,
    inputs: Mapping[str, Any],
    sequence: int | str | None = None,
    *,
    start: bool = False,
    end: bool = False,
    outputs: tuple[str, ...] = (),
    **fields: Any,
) -> oip.ModelInferRequest:
    """A request as `tritonclient` makes it: raw contents, both flags whenever there is an id."""
    request = oip.ModelInferRequest(model_name=model, **fields)
    for name, value in inputs.items():
        array = np.asarray(value)
        request.inputs.add(name=name, datatype=WIRE[array.dtype], shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    if sequence is not None:
        kind = "string_param" if isinstance(sequence, str) else "int64_param"
        setattr(request.parameters["sequence_id"], kind, sequence)
        request.parameters["sequence_start"].bool_param = start
        request.parameters["sequence_end"].bool_param = end
    return request


def outputs_of(response: oip.ModelInferResponse) -> dict[str, NDArray[Any]]:
    return {
        output.name: np.frombuffer(raw, NUMPY[output.datatype]).reshape(tuple(output.shape))
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


class HeldEngine:
    """An engine whose runs wait for `released`: meanwhile others can queue up behind them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.read, self.write = engine.read, engine.write
        self.released = threading.Event()

    def run(self, *arguments: Any) -> dict[str, NDArray[Any]]:
        assert self.released.wait(30)
        return self._engine.run(*arguments)


@dataclass
class Rig:
    """A running server, and what a client needs."""

    serving: Serving
    channel: grpc.aio.Channel
    held: dict[str, HeldEngine]
    control: ModelControl
    sessions: pb_grpc.SessionServiceStub = field(init=False)
    inference: oip_grpc.GRPCInferenceServiceStub = field(init=False)

    def __post_init__(self) -> None:
        self.sessions = pb_grpc.SessionServiceStub(self.channel)
        self.inference = oip_grpc.GRPCInferenceServiceStub(self.channel)

    # the helpers above, within reach of the tests
    fold = staticmethod(fold)
    tensor = staticmethod(tensor)
    array_of = staticmethod(array_of)
    arrays_of = staticmethod(arrays_of)
    infer = staticmethod(infer)
    outputs_of = staticmethod(outputs_of)

    async def open(self, model: str = "fold", **fields: Any) -> pb.SessionKey:
        opened = await self.sessions.OpenSession(pb.OpenSessionRequest(model_name=model, **fields))
        return opened.session

    async def step(self, key: pb.SessionKey, x: Any, **flags: bool) -> pb.StepResponse:
        """One step of "fold"; `x` is (batch, time, 2)."""
        inputs = [tensor("x", np.asarray(x, np.int64))]
        return await self.sessions.Step(pb.StepRequest(session=key, inputs=inputs, **flags))

    async def states(self, key: pb.SessionKey) -> pb.GetStatesResponse:
        """States and step count: everything that a refused request must leave alone."""
        return await self.sessions.GetStates(pb.GetStatesRequest(session=key))

    async def snapshot(self) -> dict[str, tuple[int, dict[str, bytes]]]:
        """Step count and states of every session, read past the protocols."""
        found = {}
        for session in self.serving.sessions:
            answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            begin(session, Read(), answered.set_result)
            read = await answered
            states = {name: array.tobytes() for name, array in read.states.items()}
            found[repr(session.id)] = (read.step, states)
        return found

    async def arrived(self, call: Awaitable[Any], model: str = "fold") -> asyncio.Future[Any]:
        """The call as a future, once the server has taken its request in.

        gRPC does not promise that two calls arrive in the order in which they were made.
        """
        scheduler = self.serving.model(model).scheduler
        pending, future = scheduler.pending, asyncio.ensure_future(call)
        await self.until(lambda: scheduler.pending != pending or future.done())
        return future

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110  (what it looks at belongs to the server)
            await asyncio.sleep(0)

    async def refused(
        self, call: Awaitable[Any], code: grpc.StatusCode, kind: str = ""
    ) -> grpc.aio.AioRpcError:
        """The error of a call that must fail with `code`, and say `kind` in its metadata."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = caught.value
        assert (error.code(), bool(error.details())) == (code, True), error
        if kind:
            assert dict(error.trailing_metadata())["rnnserve-error"] == kind
        return error


def _limits(spec: ModelSpec, config: LimitsConfig = LIMITS, instances: int = INSTANCES) -> Limits:
    return limits_of(replace(spec, instances=instances), config)


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[ModelSpec, Engine]]:
    """Loaded once: a new scheduler hands out all rows anew, and row 0 never changes."""
    models = {
        "fold": (FOLD_CONFIG, [fold_model(), fold_model()]),
        "untold": (UNTOLD_CONFIG, [fold_model()]),
        "mixed": (MIXED_CONFIG, [mixed_model()]),
        "affine": (AFFINE_CONFIG, [affine_model()]),
        "whole": (WHOLE_CONFIG, [whole_model()]),
    }
    root = tmp_path_factory.mktemp("models")
    for name, (config, versions) in models.items():
        for version, model in enumerate(versions, start=1):
            (root / name / str(version)).mkdir(parents=True)
            onnx.save(model, str(root / name / str(version) / "model.onnx"))
        (root / name / "config.pbtxt").write_text(config, encoding="utf-8")
    (root / "affine" / "labels.txt").write_text("low\nhigh\n", encoding="utf-8")
    return [
        (spec, Engine(spec, provider="cpu", rows=_limits(spec).arena_rows, instances=INSTANCES))
        for name in models
        for spec in load(root / name)
    ]


def _server(
    serving: Serving, control: ModelControl, max_open: int, shared_memory: Policy = "local"
) -> Any:
    """With both services, over the transport that the environment names."""
    sessions = SessionService(serving, max_open)
    inference = InferenceService(
        serving,
        max_open,
        control=control,
        caller_header="rnnserve-caller",
        shared_memory=shared_memory,
    )
    if TRANSPORT == "http2":
        from server.http2.server import Http2Server
        from server.http2.streaming import stream_methods

        server = Http2Server(MAX_MESSAGE_BYTES)
        server.add_methods([*sessions.unary(), *inference.unary()])
        server.add_streams(stream_methods(sessions, inference, max_open))
        return server
    behind = grpc.aio.server()
    add_to_server(sessions, pb.DESCRIPTOR.services_by_name["SessionService"], behind)
    add_to_server(inference, oip.DESCRIPTOR.services_by_name["GRPCInferenceService"], behind)
    if TRANSPORT == "native":
        from server.native import NativeServer

        front = NativeServer(behind, MAX_MESSAGE_BYTES)
        front.add_methods([*sessions.unary(), *inference.unary()])
        return front
    return behind


@pytest.fixture
async def make_rig(engines: list[tuple[ModelSpec, Engine]]) -> AsyncIterator[Any]:
    """Starts servers and takes them down: with other limits if asked, with models of so many
    `instances`, and with the engine of the latest version of the model `hold` held.
    """
    started = []

    async def make(
        *, hold: str = "", instances: int = 1, shared_memory: Policy = "local", **limits: int
    ) -> Rig:
        changed = LIMITS.model_copy(update=limits)
        serving = Serving(changed.max_sessions)
        held = {spec.name: HeldEngine(engine) for spec, engine in engines if spec.name == hold}
        for spec, engine in engines:
            used = held.get(spec.name, engine)
            own_thread = True if spec.name in held else None
            core = _limits(spec, changed, instances)
            serving.add(ServedModel(spec, used, core, serving.closed, own_thread=own_thread))
        config = ServerConfig(repository=engines[0][0].onnx_path.parent, provider="cpu")
        control = ModelControl(config, serving)
        server = _server(serving, control, changed.max_pending_per_session, shared_memory)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        serving.started = True
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        started.append((serving, server, channel))
        return Rig(serving, channel, held, control)

    yield make
    for serving, server, channel in started:
        await channel.close()
        await server.stop(None)
        serving.stop()


@pytest.fixture
async def rig(make_rig: Any) -> Rig:
    return await make_rig()


class Repository:
    """A model repository in which models come and go. All of them are "fold" with a factor of their
    own: `h = factor * h + x`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(
        self, name: str, *factors: int, config: str = FOLD_CONFIG, last_version: int = 0
    ) -> None:
        """The model's configuration, and a version for each factor, the last of that number."""
        first = (last_version or len(factors)) - len(factors) + 1
        for version, factor in enumerate(factors, start=first):
            (self.path / name / str(version)).mkdir(parents=True, exist_ok=True)
            onnx.save(fold_model(factor), str(self.path / name / str(version) / "model.onnx"))
        text = config.replace('name: "fold"', f'name: "{name}"')
        (self.path / name).mkdir(exist_ok=True)
        (self.path / name / "config.pbtxt").write_text(text, encoding="utf-8")

    def remove(self, name: str) -> None:
        shutil.rmtree(self.path / name)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
async def serve(repository: Repository) -> AsyncIterator[Any]:
    """Serves the repository under a model control, which is told the given settings."""
    started = []

    async def start(mode: str = "explicit", **settings: Any) -> Rig:
        config = ServerConfig(
            repository=repository.path,
            provider="cpu",
            model_control_mode=mode,
            limits=LIMITS,
            **settings,
        )
        serving = Serving(LIMITS.max_sessions)
        control = ModelControl(config, serving)
        await control.start()
        server = _server(serving, control, LIMITS.max_pending_per_session, "local")
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        serving.started = True
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        started.append((serving, control, server, channel))
        return Rig(serving, channel, {}, control)

    yield start
    for serving, control, server, channel in started:
        await channel.close()
        await server.stop(None)
        await control.stop()
        serving.stop()
