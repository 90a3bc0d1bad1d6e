"""A model with control inputs behind the scheduler and the driver, as both protocols use it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.config import LimitsConfig
from server.core.requests import Step, Stepped, Write
from server.engine.engine import Engine
from server.repository.load import load
from server.rpc.sequences import SequenceId
from server.serving import ServedModel, Serving, limits_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server.core.session import Session
    from tests.server.conftest import MakeModel

FLOAT, INT32, INT64, BOOL = (
    TensorProto.FLOAT,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.BOOL,
)

CONFIG = """max_batch_size: %d
sequence_batching {
  control_input { name: "start"
    control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
  control_input { name: "end"
    control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } }
  control_input { name: "ready"
    control { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } }
  control_input { name: "id"
    control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } }
  state { input_name: "total" output_name: "total_next" data_type: TYPE_FP32 dims: [ %s ] }
}
parameters { key: "rnnserve.time_axis.x" value { string_value: "%d" } }
parameters { key: "rnnserve.time_axis.sums" value { string_value: "%d" } }
parameters { key: "rnnserve.may_be_cut" value { string_value: "true" } }
"""


def model(batch: list[int | str]) -> onnx.ModelProto:
    """Sums up `x` (batch, time), and begins anew at START, as models do that do not trust their
    state to be zero. `flags` (batch, 3) are end, ready and id.
    """
    last = len(batch)
    node = helper.make_node
    nodes = [
        node("Sub", ["one", "start"], ["go_on"]),
        node("Mul", ["total", "go_on"], ["kept"]),
        node("CumSum", ["x", "last"], ["moves"]),
        node("Add", ["moves", "kept"], ["sums"]),
        node("Gather", ["sums", "minus_one"], ["total_next"], axis=last),
        *(node("Cast", [name], [f"{name}.int"], to=INT64) for name in ("end", "ready", "id")),
        node("Concat", ["end.int", "ready.int", "id.int"], ["flags"], axis=last),
    ]
    value = helper.make_tensor_value_info
    one = [*batch, 1]
    graph = helper.make_graph(
        nodes,
        "summing",
        [
            value("x", FLOAT, [*batch, "time"]),
            value("total", FLOAT, one),
            value("start", FLOAT, one),
            value("end", INT32, one),
            value("ready", BOOL, one),
            value("id", INT64, one),
        ],
        [
            value("sums", FLOAT, [*batch, "time"]),
            value("flags", INT64, [*batch, 3]),
            value("total_next", FLOAT, one),
        ],
        [
            numpy_helper.from_array(np.float32(1), "one"),
            numpy_helper.from_array(np.array(last), "last"),
            numpy_helper.from_array(np.array([-1]), "minus_one"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture(params=[4, 0], ids=["batches", "one at a time"])
async def served(request: pytest.FixtureRequest, make_model: MakeModel) -> AsyncIterator[Any]:
    size = request.param
    config = CONFIG % (size, "1", *([1, 1] if size else [0, 0]))
    [spec] = load(make_model("summing", config, model(["batch"] if size else [])))
    limits = limits_of(spec, LimitsConfig(max_chunk=3))
    engine = Engine(spec, provider="cpu", rows=limits.arena_rows)
    # rows that a forgotten START would let through
    everything = np.arange(limits.arena_rows)
    engine.write(everything, {"total": np.full((len(everything), 1), 1000, np.float32)})
    serving = Serving(max_sessions=9)
    served = ServedModel(spec, engine, limits, serving.closed, own_thread=False)
    serving.add(served)
    yield served
    serving.stop()


def ask(session: Session, request: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    request.answer = future.set_result
    session.home.submit(session, request)
    return future


def step(session: Session, *values: float, **how: Any) -> asyncio.Future[Any]:
    served: Any = session.home
    x = np.array([values] if served.spec.max_batch_size else values, np.float32)
    return ask(session, Step(inputs={"x": x}, timesteps=len(values), **how))


def numbers(array: Any) -> list[float]:
    return np.asarray(array).ravel().tolist()


async def open_session(served: ServedModel, id: int | str) -> Session:
    serving = Serving(max_sessions=9)
    return serving.open(served, id=SequenceId("summing", 1, id))


async def test_sessions_start_afresh_and_end_once(served: ServedModel) -> None:
    one, two = await open_session(served, 41), await open_session(served, 42)
    first = step(one, 1, 2, 3, 4, 5)  # two pieces
    other = step(two, 10)
    answers: list[Stepped] = [await first, await other]
    assert numbers(answers[0].outputs["sums"]) == [1, 3, 6, 10, 15]
    assert numbers(answers[1].outputs["sums"]) == [10]
    assert numbers(answers[0].outputs["flags"]) == [0, 1, 41]
    assert numbers(answers[1].outputs["flags"]) == [0, 1, 42]
    last, again = step(one, 1, 1, 1, 1, end=True), step(two, 5)
    answers = [await last, await again]
    assert numbers(answers[0].outputs["sums"]) == [16, 17, 18, 19]
    assert numbers(answers[0].outputs["flags"]) == [1, 1, 41]
    assert numbers(answers[1].outputs["sums"]) == [15]
    assert numbers(answers[1].outputs["flags"]) == [0, 1, 42]


async def test_a_reset_starts_again_and_given_states_do_not(served: ServedModel) -> None:
    session = await open_session(served, 7)
    await step(session, 5)
    await ask(session, Write())
    assert numbers((await step(session, 1)).outputs["sums"]) == [1]
    await ask(session, Write(states={"total": np.array([[100]], np.float32)}))
    assert numbers((await step(session, 1)).outputs["sums"]) == [101]
