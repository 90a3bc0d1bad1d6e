"""`dynamic_batching` on the wire: who goes first, who is refused, and what the clients hear.

All models compute `y = 2 * x + 1`. A request tells itself apart by its `x`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import onnx
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.engine.engine import Engine
from server.repository.load import load
from server.serving import limits_of
from server.stubs.inference import grpc_service_pb2 as oip
from tests.server.rpc.conftest import LIMITS, affine_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from server.repository.spec import ModelSpec

Code = grpc.StatusCode
IO = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
BATCHING = {
    "levels": "priority_levels: 3 default_priority_level: 2",
    "full": "default_queue_policy { max_queue_size: 2 }",
    "strict": "default_queue_policy { default_timeout_microseconds: 20000 }",
    "lenient": "default_queue_policy { default_timeout_microseconds: 60000000 }",
    "open": """
        default_queue_policy { default_timeout_microseconds: 60000000 allow_timeout_override: true }
    """,
    "limitless": "default_queue_policy { allow_timeout_override: true max_queue_size: 9 }",
    "delaying": """
        default_queue_policy {
          timeout_action: DELAY default_timeout_microseconds: 60000000 allow_timeout_override: true
        }
    """,
    "gathering": "preferred_batch_size: [ 2, 8 ] max_queue_delay_microseconds: 60000000",
    "patient": "max_queue_delay_microseconds: 50000",
    "plain": "",
}
ONE_BY_ONE = {"levels", "delaying"}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[ModelSpec, Engine]]:
    """In place of the usual ones."""
    root = tmp_path_factory.mktemp("queues")
    for name, batching in BATCHING.items():
        (root / name / "1").mkdir(parents=True)
        onnx.save(affine_model(), str(root / name / "1" / "model.onnx"))
        size = 1 if name in ONE_BY_ONE else 8
        text = f"max_batch_size: {size} {IO} dynamic_batching {{ {batching} }}"
        (root / name / "config.pbtxt").write_text(text, encoding="utf-8")
    return [
        (spec, Engine(spec, provider="cpu", rows=limits_of(spec, LIMITS).arena_rows))
        for name in BATCHING
        for spec in load(root / name)
    ]


class Recorder:
    """Remembers the first number of every row that runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.runs: list[list[int]] = []

    def run(self, inputs: Any, *rows: Any) -> dict[str, NDArray[Any]]:
        self.runs.append(inputs["x"][:, 0].astype(int).tolist())
        return self._engine.run(inputs, *rows)


def request(rig: Any, model: str, number: int, **parameters: int) -> oip.ModelInferRequest:
    asked: oip.ModelInferRequest = rig.infer(model, {"x": np.full((1, 2), number, np.float32)})
    asked.id = str(number)
    for name, value in parameters.items():
        asked.parameters[name].int64_param = value
    return asked


def infer(rig: Any, model: str, number: int, **parameters: int) -> Any:
    return rig.inference.ModelInfer(request(rig, model, number, **parameters))


async def answer(rig: Any, call: Any) -> int:
    """Which request that is the answer to."""
    return int((rig.outputs_of(await call)["y"][0, 0] - 1) / 2)


async def queue_up(rig: Any, model: str, *asked: dict[str, int]) -> tuple[Recorder, list[Any]]:
    """Request 0, which the engine is at, and behind it 1, 2, … with these parameters."""
    held = rig.held[model]
    held._engine = recorder = Recorder(held._engine)
    calls = [await rig.arrived(infer(rig, model, 0), model)]
    await rig.until(lambda: rig.serving.model(model).scheduler.ledger.working_rows)
    for number, parameters in enumerate(asked, start=1):
        calls.append(await rig.arrived(infer(rig, model, number, **parameters), model))
    return recorder, calls


async def statistics(rig: Any, model: str) -> Any:
    await rig.serving.model(model).driver.idle()
    await asyncio.sleep(0.01)  # counted after those who wait have been served
    asked = oip.ModelStatisticsRequest(name=model)
    return (await rig.inference.ModelStatistics(asked)).model_stats[0]


async def test_the_server_says_that_it_has_that(rig: Any) -> None:
    metadata = await rig.inference.ServerMetadata(oip.ServerMetadataRequest())
    assert "schedule_policy" in metadata.extensions


# ---- priority ------------------------------------------------------------------------------------


async def test_the_smallest_number_goes_first(make_rig: Any) -> None:
    rig = await make_rig(hold="levels")
    asked = [{"priority": level} for level in (3, 2, 0, 1, 4, 1)]
    recorder, calls = await queue_up(rig, "levels", *asked, {})
    rig.held["levels"].released.set()
    assert [await answer(rig, call) for call in calls] == [0, 1, 2, 3, 4, 5, 6, 7]
    assert recorder.runs == [[0], [4], [6], [2], [3], [5], [7], [1]]


async def test_a_priority_may_be_an_unsigned_number(rig: Any) -> None:
    asked = request(rig, "levels", 1)
    asked.parameters["priority"].uint64_param = 2**64 - 1
    assert await answer(rig, rig.inference.ModelInfer(asked)) == 1


@pytest.mark.parametrize("name", ["priority", "timeout"])
@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("int64_param", -1, "request parameter '{}' must be 0 or more, got -1"),
        ("bool_param", True, "invalid value type for '{}' parameter, expected int64_param or"),
        ("string_param", "1", "invalid value type for '{}' parameter, expected int64_param or"),
        ("double_param", 1.0, "invalid value type for '{}' parameter, expected int64_param or"),
    ],
)
@pytest.mark.parametrize("model", ["levels", "plain"])
async def test_parameters_of_another_kind_are_refused(
    rig: Any, model: str, name: str, field: str, value: Any, text: str
) -> None:
    asked = request(rig, model, 1)
    setattr(asked.parameters[name], field, value)
    error = await rig.refused(rig.inference.ModelInfer(asked), Code.INVALID_ARGUMENT)
    assert error.details().startswith(text.format(name))


# ---- max_queue_size ------------------------------------------------------------------------------


async def test_a_full_queue_takes_nobody(make_rig: Any) -> None:
    rig = await make_rig(hold="full")
    _, calls = await queue_up(rig, "full", {}, {})
    error = await rig.refused(infer(rig, "full", 3), Code.RESOURCE_EXHAUSTED, "LimitReached")
    assert error.details().startswith("Exceeds maximum queue size")
    assert dict(error.trailing_metadata())["retry-after-s"] == "0.1"
    rig.held["full"].released.set()
    assert [await answer(rig, call) for call in calls] == [0, 1, 2]
    assert await answer(rig, infer(rig, "full", 3)) == 3
    counted = (await statistics(rig, "full")).inference_stats
    assert (counted.success.count, counted.fail.count, counted.queue.count) == (4, 1, 4)


# ---- timeouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("strict", {}), ("strict", {"timeout": 60_000_000}), ("open", {"timeout": 20_000})],
)
async def test_who_waits_too_long_is_refused_while_the_engine_is_busy(
    make_rig: Any, model: str, parameters: dict[str, int]
) -> None:
    rig = await make_rig(hold=model)
    _, (running, late) = await queue_up(rig, model, parameters)
    error = await rig.refused(late, Code.UNAVAILABLE, "TimeoutExpired")
    assert error.details() == "Request timeout expired"
    assert not running.done()
    rig.held[model].released.set()
    assert await answer(rig, running) == 0
    counted = (await statistics(rig, model)).inference_stats
    assert (counted.success.count, counted.fail.count, counted.queue.count) == (1, 1, 1)
    assert counted.fail.ns >= 20_000_000
    assert len(rig.serving.sessions) == 0


@pytest.mark.parametrize("model", ["lenient", "limitless", "levels", "plain"])
async def test_a_timeout_that_the_queue_does_not_listen_to_has_no_effect(
    make_rig: Any, model: str
) -> None:
    rig = await make_rig(hold=model)
    _, calls = await queue_up(rig, model, {"timeout": 1})
    await asyncio.sleep(0.01)
    rig.held[model].released.set()
    assert [await answer(rig, call) for call in calls] == [0, 1]


async def test_who_is_delayed_is_served_after_the_others(make_rig: Any) -> None:
    rig = await make_rig(hold="delaying")
    recorder, calls = await queue_up(rig, "delaying", {"timeout": 1000}, {}, {})
    await asyncio.sleep(0.01)
    rig.held["delaying"].released.set()
    assert [await answer(rig, call) for call in calls] == [0, 1, 2, 3]
    assert recorder.runs == [[0], [2], [3], [1]]


async def test_in_a_stream_a_refusal_is_one_answer_of_many(make_rig: Any) -> None:
    rig = await make_rig(hold="open")
    await queue_up(rig, "open")
    stream = rig.inference.ModelStreamInfer()
    await stream.write(request(rig, "open", 1, timeout=1000))
    refused = await stream.read()
    assert refused.error_message == "Request timeout expired"
    assert refused.infer_response.id == "1"
    await stream.write(request(rig, "open", 2, priority=1))
    rig.held["open"].released.set()
    served = await stream.read()
    assert (served.error_message, served.infer_response.id) == ("", "2")
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


async def test_a_step_of_a_session_queues_like_any_other(make_rig: Any) -> None:
    rig = await make_rig(hold="strict")
    _, (running,) = await queue_up(rig, "strict")
    key = await rig.open("strict")
    inputs = [rig.tensor("x", np.ones((1, 2), np.float32))]
    step = rig.sessions.Step(pb.StepRequest(session=key, inputs=inputs))
    await rig.refused(step, Code.UNAVAILABLE, "TimeoutExpired")
    rig.held["strict"].released.set()
    await running
    made = await rig.sessions.Step(pb.StepRequest(session=key, inputs=inputs))
    assert (made.step, rig.array_of(made.outputs[0]).tolist()) == (1, [[3, 3]])


async def test_a_call_that_is_cancelled_leaves_the_queue(make_rig: Any) -> None:
    rig = await make_rig(hold="full")
    _, calls = await queue_up(rig, "full", {}, {})
    calls.pop().cancel()
    scheduler = rig.serving.model("full").scheduler
    await rig.until(lambda: scheduler.pending == 2)
    calls.append(await rig.arrived(infer(rig, "full", 3), "full"))
    rig.held["full"].released.set()
    assert [await answer(rig, call) for call in calls] == [0, 1, 3]


# ---- max_queue_delay -----------------------------------------------------------------------------


async def test_an_idle_engine_waits_for_company(rig: Any) -> None:
    first = await rig.arrived(infer(rig, "gathering", 1), "gathering")
    await asyncio.sleep(0.01)
    assert not first.done()
    second = infer(rig, "gathering", 2)
    assert [await answer(rig, call) for call in (first, second)] == [1, 2]
    counted = await statistics(rig, "gathering")
    assert (counted.inference_count, counted.execution_count) == (2, 1)
    assert [batch.batch_size for batch in counted.batch_stats] == [2]


async def test_but_not_for_ever(rig: Any) -> None:
    assert await answer(rig, infer(rig, "patient", 1)) == 1
    counted = await statistics(rig, "patient")
    assert counted.inference_stats.queue.ns >= 50_000_000
    assert [batch.batch_size for batch in counted.batch_stats] == [1]
