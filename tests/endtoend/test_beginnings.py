"""Sessions that begin with constants or with another session's states, over models as somebody else
would write them: an encoder that gives nothing but its state, a decoder with a constant and a mask,
and a model without a batch axis.

Each computes `h = 3 * h + x` in integers, which lose nothing, and differs in what it makes of x.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import rnnserve

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PARAMETER = 'parameters {{ key: "rnnserve.{}" value {{ string_value: "{}" }} }}\n'

ENCODER = """\
max_batch_size: 4
sequence_batching { state { input_name: "h" output_name: "h_next" data_type: TYPE_INT64 dims: 2 } }
"""
ENCODER += PARAMETER.format("time_axis.x", 1) + PARAMETER.format("may_be_cut", "true")

DECODER = """\
max_batch_size: 4
input { name: "x" data_type: TYPE_INT64 dims: [ -1, 2 ] }
input { name: "mask" data_type: TYPE_BOOL dims: [ -1 ] optional: true }
input { name: "gain" data_type: TYPE_INT64 dims: [ 2 ] }
sequence_batching { state { input_name: "d" output_name: "d_next" data_type: TYPE_INT64 dims: 2 } }
"""
DECODER += PARAMETER.format("time_axis.x", 1) + PARAMETER.format("time_axis.mask", 1)
DECODER += PARAMETER.format("time_axis.y", 1) + PARAMETER.format("may_be_cut", "true")
DECODER += PARAMETER.format("constant.gain", "session") + PARAMETER.format("default.mask", "true")

ALONE = """\
input { name: "x" data_type: TYPE_INT64 dims: [ -1, 2 ] }
input { name: "scale" data_type: TYPE_INT64 dims: [ ] optional: true }
sequence_batching { state { input_name: "h" output_name: "h_next" data_type: TYPE_INT64 dims: 2 } }
"""
ALONE += PARAMETER.format("time_axis.x", 0) + PARAMETER.format("time_axis.y", 0)
ALONE += PARAMETER.format("default.scale", 1)

X = np.array([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]])
EVEN = np.array([True, False, True, False, True])


def fold(h: Any, steps: NDArray[Any]) -> NDArray[Any]:
    """What all of them do: every timestep's state, (time, 2)."""
    return np.stack([h := 3 * np.asarray(h) + step for step in steps])


def value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def graph(
    prepare: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    state: str,
    rows: tuple[str, ...],
    axis: int,
    *,
    gives: bool = True,
) -> onnx.ModelProto:
    """`prepare` makes of the inputs `step`, what is added in every timestep, and `counts`, whether
    it is: both have their time at `axis`. Whether it `gives` anything: "y", every timestep's state.
    """
    whole = TensorProto.INT64
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["before", "three"], ["tripled"]),
            helper.make_node("Add", ["tripled", "step_t"], ["added"]),
            helper.make_node("Where", ["counts_t", "added", "before"], ["after"]),
            helper.make_node("Identity", ["after"], ["y_t"]),
        ],
        "body",
        [value("before", whole, *rows, 2), value("step_t", whole, *rows, 2),
         value("counts_t", TensorProto.BOOL, *rows, 1)],
        [value("after", whole, *rows, 2), value("y_t", whole, *rows, 2)],
    )  # fmt: skip
    scan = helper.make_node(
        "Scan", [state, "step", "counts"], [f"{state}_next", "y"], body=body, num_scan_inputs=2,
        scan_input_axes=[axis, axis], scan_output_axes=[axis],
    )  # fmt: skip
    outputs = [value(f"{state}_next", whole, *rows, 2)]
    if gives:
        outputs.append(value("y", whole, *rows, "time", 2))
    stored = {"three": np.array(3), "last": np.array([-1]), "middle": np.array([1])}
    made = helper.make_graph(
        [*prepare, scan], "model", [*inputs, value(state, whole, *rows, 2)], outputs,
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def always(x: str) -> list[onnx.NodeProto]:
    """`counts` is true for every timestep."""
    return [
        helper.make_node("ReduceMax", [x, "last"], ["largest"], keepdims=1),
        helper.make_node("Equal", ["largest", "largest"], ["counts"]),
    ]


def encoder() -> onnx.ModelProto:
    prepare = [helper.make_node("Identity", ["x"], ["step"]), *always("x")]
    inputs = [value("x", TensorProto.INT64, "batch", "time", 2)]
    return graph(prepare, inputs, "h", ("batch",), 1, gives=False)


def decoder() -> onnx.ModelProto:
    prepare = [
        helper.make_node("Unsqueeze", ["gain", "middle"], ["gains"]),
        helper.make_node("Mul", ["x", "gains"], ["step"]),
        helper.make_node("Unsqueeze", ["mask", "last"], ["counts"]),
    ]
    inputs = [
        value("x", TensorProto.INT64, "batch", "time", 2),
        value("mask", TensorProto.BOOL, "batch", "time"),
        value("gain", TensorProto.INT64, "batch", 2),
    ]
    return graph(prepare, inputs, "d", ("batch",), 1)


def alone() -> onnx.ModelProto:
    prepare = [helper.make_node("Mul", ["x", "scale"], ["step"]), *always("x")]
    inputs = [value("x", TensorProto.INT64, "time", 2), value("scale", TensorProto.INT64)]
    return graph(prepare, inputs, "h", (), 0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("beginnings")
    for make, config in ((encoder, ENCODER), (decoder, DECODER), (alone, ALONE)):
        directory = root / make.__name__
        (directory / "1").mkdir(parents=True)
        model = make()
        onnx.checker.check_model(model)
        onnx.save(model, str(directory / "1" / "model.onnx"))
        (directory / "config.pbtxt").write_text(config, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def served(start: Any, models: Path) -> Any:
    return start(models).wait_until_serving()


@pytest.fixture
def client(served: Any) -> Any:
    with rnnserve.connect(served.grpc) as client:
        yield client
        assert client.sessions() == []


def test_the_models_are_described(client: Any) -> None:
    decoder = client.model("decoder")
    assert [tensor.name for tensor in decoder.inputs] == ["x", "mask"]
    assert [tensor.has_default for tensor in decoder.inputs] == [False, True]
    (gain,) = decoder.constants
    assert (gain.name, gain.dtype, gain.shape) == ("gain", np.int64, (-1, 2))
    assert decoder.batched
    assert client.model("encoder").outputs == ()
    alone = client.model("alone")
    assert not alone.batched
    assert [tensor.shape for tensor in (*alone.inputs, *alone.states)] == [(-1, 2), (), (2,)]


def test_constants_are_the_session_s_own(client: Any) -> None:
    gains = [[n, -n] for n in range(1, 4)]
    sessions = [client.session("decoder", constants={"gain": gain}).open() for gain in gains]
    for _ in range(2):
        for gain, session in zip(gains, sessions, strict=True):
            assert session.step(X).tolist() == fold([0, 0], X * gain)[-1].tolist()
            session.reset_states()
    for gain, session in zip(gains, sessions, strict=True):
        session.set_states({"d": [[4, 5]]})
        got = session.step(X, return_sequences=True)
        assert got.tolist() == fold([4, 5], X * gain).tolist()
        assert set(session.states) == {"d"}
        session.close()


def test_constants_of_sessions_that_share_batches(served: Any) -> None:
    async def run() -> None:
        async with rnnserve.aio.connect(served.grpc) as client:

            async def one(n: int) -> None:
                rows = [[n, 1], [1, n]]
                async with client.session("decoder", batch_size=2, constants=rows) as session:
                    h = [np.zeros(2, np.int64)] * 2
                    for _ in range(5):
                        got = await session.step(np.stack([X, -X]))
                        h = [
                            fold(before, x * gain)[-1]
                            for before, x, gain in zip(h, (X, -X), np.array(rows), strict=True)
                        ]
                        assert got.tolist() == np.stack(h).tolist()

            await asyncio.gather(*(one(n) for n in range(20)))

    asyncio.run(run())


def test_a_mask_may_be_left_out(client: Any) -> None:
    with client.session("decoder", constants=[1, 1]) as session:
        assert session.step(X, mask=EVEN).tolist() == fold([0, 0], X[EVEN])[-1].tolist()
        session.reset_states()
        assert session.step(X).tolist() == fold([0, 0], X)[-1].tolist()
        before = session.states["d"].tolist()
        session.step(X, mask=np.zeros(5, bool))
        assert session.states["d"].tolist() == before
        session.reset_states()
        for frame, counts in zip(X, EVEN, strict=True):
            last = session.step(frame, mask=counts)
        assert last.tolist() == fold([0, 0], X[EVEN])[-1].tolist()


def test_from_encoder_to_decoder(client: Any) -> None:
    with client.session("encoder") as encoder:
        assert encoder.step(X) == {}
        h = fold([0, 0], X)[-1]
        with client.session("decoder", constants=[2, 3], states_of=encoder) as decoder:
            assert decoder.step(X).tolist() == fold(h, X * [2, 3])[-1].tolist()
        named = client.session("decoder", constants=[2, 3], states_of=(encoder, {"d": "h"}))
        with named as decoder:
            assert decoder.states["d"].tolist() == [h.tolist()]
            with client.session("decoder", states_of=decoder) as other:  # its constants, too
                assert other.step(X).tolist() == fold(h, X * [2, 3])[-1].tolist()
        with client.session("encoder", states_of=encoder) as other:
            other.step(X)
            assert other.states["h"].tolist() == fold(h, X)[-1:].tolist()
        assert encoder.states["h"].tolist() == [h.tolist()]


async def test_from_encoder_to_decoder_with_asyncio(served: Any) -> None:
    async with (
        rnnserve.aio.connect(served.grpc) as client,
        client.session("encoder") as encoder,
    ):
        async for _ in encoder.stream(X):
            break
        async with client.session("decoder", constants=[1, 1], states_of=encoder) as decoder:
            (d,) = (await decoder.get_states())["d"].tolist()
            assert d == fold([0, 0], X[: encoder.step_count])[-1].tolist()


def test_without_a_batch_axis(client: Any) -> None:
    with client.session("alone", initial_state={"h": [7, 8]}) as session:
        assert session.step(X).tolist() == fold([7, 8], X)[-1].tolist()
        assert session.states["h"].tolist() == fold([7, 8], X)[-1].tolist()
        session.reset_states()
        got = session.step(X, scale=5, return_sequences=True)
        assert got.tolist() == fold([0, 0], X * 5).tolist()
        session.set_states({"h": [1, 1]})
        streamed = list(session.stream(X))
        assert np.stack(streamed).tolist() == fold([1, 1], X).tolist()
    with client.session("alone") as first, client.session("alone") as second:
        for frame in X:
            first.step(frame)
            second.step(-frame)
        assert first.states["h"].tolist() == fold([0, 0], X)[-1].tolist()
        assert second.states["h"].tolist() == fold([0, 0], -X)[-1].tolist()


def test_what_is_refused_in_the_server_s_words(client: Any) -> None:
    with pytest.raises(
        rnnserve.InvalidRequest, match=r"has the constants \['gain'\], which a sess"
    ):
        client.session("decoder").open()
    with (
        client.session("encoder", batch_size=2) as encoder,
        pytest.raises(rnnserve.InvalidRequest, match="must have the same, got 1"),
    ):
        client.session("encoder", states_of=encoder).open()
    with pytest.raises(rnnserve.InvalidRequest, match="batch size must be 1 for model 'alone'"):
        client.session("alone", batch_size=2).open()


def test_by_tritonclient(served: Any, script: Any) -> None:
    process = script("triton_beginnings.py", served.grpc)
    seen = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    inputs = [["x", "INT64", [-1, -1, 2]], ["mask", "BOOL", [-1, -1]], ["gain", "INT64", [-1, 2]]]
    assert seen["inputs"] == [inputs, inputs]
    h = fold([0, 0], X[:2])[-1]
    first = fold(h, X[:2] * [2, 3])
    second = fold(first[-1], X[:2] * [2, 3])
    expected = [None, [first.tolist()], [second.tolist()], None]
    assert seen["outputs"] == [expected, expected]
    assert served.metric("rnnserve_sessions") == 0
