"""Models as other people export them, compared with plain ONNX Runtime by `compare`: sessions run
in turn, alone and together, and every output and every state must be the same bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server import datatypes
from server.engine.engine import Engine
from server.errors import StartupError, StepFailed
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.server.conftest import MakeModel
    from tests.server.engine.conftest import Compare

INT64 = TensorProto.INT64


def value(name: str, elem_type: int, shape: Sequence[int | str] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def build(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    stored: dict[str, Any] | None = None,
    *,
    opset: int = 18,
    ir_version: int = 8,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in (stored or {}).items()]
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(function.domain, 1) for function in functions]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=ir_version, functions=functions
    )


def mixing(elem_type: int, state: str = "s", after: str = "s_next") -> list[onnx.NodeProto]:
    """after = (3 · state + x) mod 97 in any type: order and every bit count."""
    node = helper.make_node
    return [
        node("Cast", [state], [f"{state}.int"], to=INT64),
        node("Cast", ["x"], [f"{state}.x"], to=INT64),
        node("Mul", [f"{state}.int", "three"], [f"{state}.3"]),
        node("Add", [f"{state}.3", f"{state}.x"], [f"{state}.sum"]),
        node("Mod", [f"{state}.sum", "prime"], [f"{state}.mod"]),
        node("Cast", [f"{state}.mod"], [after], to=elem_type),
    ]


NUMBERS = {"three": np.array(3), "prime": np.array(97)}


def counter(
    elem_type: int = TensorProto.FLOAT,
    shape: Sequence[int | str] = ("batch", 2),
    *,
    known: bool = True,
    **how: Any,
) -> onnx.ModelProto:
    """One state `s` → `s_next`, one input `x` and one output `y`, all of one type and shape."""
    nodes = [*mixing(elem_type), helper.make_node("Identity", ["s_next"], ["y"])]
    given = shape if known else None
    return build(
        nodes,
        [value(name, elem_type, given) for name in ("x", "s")],
        [value(name, elem_type, given) for name in ("y", "s_next")],
        NUMBERS,
        **how,
    )


def state(
    type_name: str, dims: Sequence[int], name: str = "s", after: str = "s_next", more: str = ""
) -> str:
    return (
        f'state {{ input_name: "{name}" output_name: "{after}" data_type: TYPE_{type_name}'
        f" dims: {list(dims)} {more} }}\n"
    )


def config(max_batch_size: int, *states: str, more: str = "") -> str:
    sequences = f"sequence_batching {{ {''.join(states)} }}\n"
    return f"max_batch_size: {max_batch_size}\n{sequences}{more}"


def parameter(key: str, text: str) -> str:
    return f'parameters {{ key: "rnnserve.{key}" value {{ string_value: "{text}" }} }}\n'


def tensors(type_name: str, dims: Sequence[int]) -> str:
    """`x` and `y` as the configuration has to tell them where the graph does not."""
    entry = f"data_type: TYPE_{type_name} dims: {list(dims)}"
    return f'input {{ name: "x" {entry} }} output {{ name: "y" {entry} }}\n'


@pytest.mark.parametrize("max_batch_size", [0, 1, 4])
@pytest.mark.parametrize("type_name", sorted(datatypes.BY_NAME))
def test_every_type(
    make_model: MakeModel, compare: Compare, type_name: str, max_batch_size: int
) -> None:
    shape = ["batch", 2] if max_batch_size else [2]
    model = counter(datatypes.BY_NAME[type_name].onnx, shape)
    path = make_model("m", config(max_batch_size, state(type_name, [2])), model)
    engine = compare(path)
    assert engine.spec.states[0].batch_axis == (0 if max_batch_size else None)


@pytest.mark.parametrize("dims", [(), (1,), (5,), (2, 3), (2, 1, 3, 2)])
@pytest.mark.parametrize("known", [True, False], ids=["known", "shapes unknown"])
@pytest.mark.parametrize("max_batch_size", [0, 4])
def test_every_rank(
    make_model: MakeModel,
    compare: Compare,
    dims: tuple[int, ...],
    known: bool,
    max_batch_size: int,
) -> None:
    shape = ("batch", *dims) if max_batch_size else dims
    model = counter(TensorProto.FLOAT, shape, known=known)
    more = "" if known else tensors("FP32", dims)
    path = make_model("m", config(max_batch_size, state("FP32", dims), more=more), model)
    assert compare(path).spec.states[0].shape == dims


@pytest.mark.parametrize("opset", [9, 11, 18])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("batch", ["batch", 1], ids=["any batch", "batch of 1"])
def test_a_batch_axis_anywhere(
    make_model: MakeModel, compare: Compare, axis: int, batch: str | int, opset: int
) -> None:
    """`x` comes batch first; the state is served too, batch first."""
    dims = [2, 3, 4]
    order = [*range(1, axis + 1), 0, *range(axis + 1, 4)]
    shape = [*dims[:axis], batch, *dims[axis:]]
    nodes = mixing(TensorProto.FLOAT)
    nodes[1].input[0] = "x_moved"
    nodes.insert(0, helper.make_node("Transpose", ["x"], ["x_moved"], perm=order))
    model = build(
        nodes,
        [value("x", TensorProto.FLOAT, [batch, *dims]), value("s", TensorProto.FLOAT, shape)],
        [value("s_next", TensorProto.FLOAT, shape)],
        NUMBERS,
        opset=opset,
    )
    if opset < 10:  # Mod came with 10
        model.graph.node[5].CopyFrom(helper.make_node("Div", ["s.sum", "prime"], ["s.mod"]))
    more = f'output {{ name: "s_next" data_type: TYPE_FP32 dims: {dims} }}\n'
    more += parameter("state.s.batch_axis", str(axis))
    size = 4 if batch == "batch" else 1
    engine = compare(make_model("m", config(size, state("FP32", dims), more=more), model))
    assert engine.spec.outputs[0].shape == (-1, *dims)


@pytest.mark.parametrize(
    ("known", "listed"),
    [(True, True), (True, False), (False, True)],
    ids=["known and listed", "known", "listed"],
)
def test_time_before_the_batch(
    make_model: MakeModel, compare: Compare, known: bool, listed: bool
) -> None:
    """As torch has it: `x` and `y` are (time, batch, 2) and `s` (1, batch, 2). `lengths` is a row
    of a constant, and the batch is to be counted where `x` has it.
    """
    floats = TensorProto.FLOAT
    node = helper.make_node
    nodes = [
        node("CumSum", ["x", "zero"], ["moves"]),
        node("Mul", ["moves", "lengths"], ["weighted"]),
        node("Add", ["weighted", "s"], ["y"]),
        node("Gather", ["y", "minus_one"], ["s_next"], axis=0),
    ]
    sequence, one = (["time", "batch", 2], [1, "batch", 2]) if known else (None, None)
    model = build(
        nodes,
        [
            value("x", floats, sequence),
            value("s", floats, one),
            value("lengths", floats, ["batch", 1]),
        ],
        [value("y", floats, sequence), value("s_next", floats, one)],
        {"zero": np.array(0), "minus_one": np.array([-1])},
    )
    more = tensors("FP32", [-1, 2]) if listed else ""
    more += parameter("batch_axis.x", "1") + parameter("batch_axis.y", "1")
    more += parameter("state.s.batch_axis", "1") + parameter("time_axis.x", "1")
    more += parameter("time_axis.y", "1") + parameter("may_be_cut", "true")
    more += parameter("constant.lengths", "2")
    path = make_model("m", config(4, state("FP32", [1, 2]), more=more), model)
    engine = compare(path, given={"lengths": np.array([[2]], np.float32)}, highest=9)
    assert engine.spec.inputs[0].shape == (-1, -1, 2)


@pytest.mark.parametrize("time", ["time", 1])
def test_time_before_the_batch_without_a_state(
    make_model: MakeModel, compare: Compare, time: str | int
) -> None:
    floats = TensorProto.FLOAT
    model = build(
        [helper.make_node("Mul", ["x", "gain"], ["y"])],
        [value("x", floats, [time, "batch", 2]), value("gain", floats, ["batch", 1])],
        [value("y", floats, [time, "batch", 2])],
    )
    more = parameter("batch_axis.x", "1") + parameter("batch_axis.y", "1")
    path = make_model("m", f"max_batch_size: 3\n{more}{parameter('constant.gain', '3')}", model)
    compare(path, given={"gain": np.array([[3]], np.float32)})


def test_states_only(make_model: MakeModel, compare: Compare) -> None:
    model = counter()
    del model.graph.output[0]
    engine = compare(make_model("m", config(4, state("FP32", [2])), model))
    assert engine.spec.outputs == ()


def test_a_state_that_is_passed_through_under_its_own_name(
    make_model: MakeModel, compare: Compare
) -> None:
    model = counter()
    model.graph.input.append(value("mean", TensorProto.FLOAT, ["batch", 3]))
    model.graph.output.append(value("mean", TensorProto.FLOAT, ["batch", 3]))
    initial = 'initial_state { data_type: TYPE_FP32 dims: [ 3 ] data_file: "mean" }'
    text = config(4, state("FP32", [2]), state("FP32", [3], "mean", "mean", initial))
    data = np.array([1, 2, 3], "<f4")
    engine = compare(make_model("m", text, model, initial_state={"mean": data.tobytes()}))
    np.testing.assert_array_equal(engine.read(np.array([0]))["mean"], data[None])


@pytest.mark.parametrize("max_batch_size", [0, 4])
def test_states_that_change_places(
    make_model: MakeModel, compare: Compare, max_batch_size: int
) -> None:
    """The next `a` is what `b` was, and the next `b` what `a` was, plus `x`, served as well."""
    shape = ["batch", 2] if max_batch_size else [2]
    model = build(
        [helper.make_node("Add", ["a", "x"], ["sum"])],
        [value(name, TensorProto.FLOAT, shape) for name in "xab"],
        [value(name, TensorProto.FLOAT, shape) for name in ("sum", "b")],
    )
    states = state("FP32", [2], "a", "b"), state("FP32", [2], "b", "sum")
    more = 'output { name: "sum" data_type: TYPE_FP32 dims: [ 2 ] }\n'
    compare(make_model("m", config(max_batch_size, *states, more=more), model))


def test_an_input_that_is_an_output(make_model: MakeModel, compare: Compare) -> None:
    model = counter()
    model.graph.output.append(value("x", TensorProto.FLOAT, ["batch", 2]))
    engine = compare(make_model("m", config(4, state("FP32", [2])), model))
    assert [tensor.name for tensor in engine.spec.outputs] == ["y", "x"]


def test_a_state_out_of_a_branch(make_model: MakeModel, compare: Compare) -> None:
    """Where the sum over `x` is odd the state stays; both branches use it from outside."""
    branches = {
        "then_branch": helper.make_graph(
            [helper.make_node("Identity", ["s"], ["kept"])],
            "stay",
            [],
            [value("kept", TensorProto.FLOAT, None)],
        ),
        "else_branch": helper.make_graph(
            [*mixing(TensorProto.FLOAT, after="moved")],
            "go",
            [],
            [value("moved", TensorProto.FLOAT, None)],
        ),
    }
    nodes = [
        helper.make_node("Cast", ["x"], ["x.int"], to=INT64),
        helper.make_node("ReduceSum", ["x.int"], ["total"], keepdims=0),
        helper.make_node("Mod", ["total", "two"], ["odd"]),
        helper.make_node("Cast", ["odd"], ["is_odd"], to=TensorProto.BOOL),
        helper.make_node("If", ["is_odd"], ["s_next"], **branches),
        helper.make_node("Neg", ["s_next"], ["y"]),
    ]
    model = build(
        nodes,
        [value(name, TensorProto.FLOAT, [2]) for name in ("x", "s")],
        [value(name, TensorProto.FLOAT, [2]) for name in ("y", "s_next")],
        {**NUMBERS, "two": np.array(2)},
    )
    compare(make_model("m", config(0, state("FP32", [2])), model))


def test_a_state_out_of_a_loop(make_model: MakeModel, compare: Compare) -> None:
    """`s` is carried through a Loop of three turns."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            *mixing(TensorProto.FLOAT, "carried", "carried_next"),
        ],
        "turn",
        [
            value("turn", INT64, []),
            value("go", TensorProto.BOOL, []),
            value("carried", TensorProto.FLOAT, None),
        ],
        [value("go_on", TensorProto.BOOL, []), value("carried_next", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Loop", ["three", "", "s"], ["s_next"], body=body),
        helper.make_node("Neg", ["s_next"], ["y"]),
    ]
    shape = ["batch", 2]
    model = build(
        nodes,
        [value(name, TensorProto.FLOAT, shape) for name in ("x", "s")],
        [value(name, TensorProto.FLOAT, shape) for name in ("y", "s_next")],
        NUMBERS,
    )
    compare(make_model("m", config(4, state("FP32", [2])), model))


@pytest.mark.parametrize("ir_version", [3, 4, 8])
@pytest.mark.parametrize("opset", [7, 8, 10, 11, 18])
def test_values_in_the_file_for_inputs(
    make_model: MakeModel, compare: Compare, ir_version: int, opset: int
) -> None:
    """As old exporters write it: weights are inputs too. The state has a value as well where plain
    ONNX Runtime lets it be fed all the same.
    """
    nodes = [
        helper.make_node("Mul", ["s", "three"], ["s.3"]),
        helper.make_node("Add", ["s.3", "x"], ["s_next"]),
        helper.make_node("Add", ["s_next", "offset"], ["y"]),
    ]
    floats = TensorProto.FLOAT
    model = build(
        nodes,
        [
            *(value(name, floats, ["batch", 2]) for name in ("x", "s")),
            *(value(name, floats, [1, 2]) for name in ("three", "offset")),
        ],
        [value(name, floats, ["batch", 2]) for name in ("y", "s_next")],
        {
            "three": np.array([[3, -3]], np.float32),
            "offset": np.array([[7, 8]], np.float32),
            **({"s": np.array([[99, 99]], np.float32)} if ir_version > 3 else {}),
        },
        opset=opset,
        ir_version=ir_version,
    )
    engine = compare(make_model("m", config(4, state("FP32", [2])), model))
    assert [tensor.name for tensor in engine.spec.inputs] == ["x"]


def test_an_input_with_a_value_in_the_file_may_be_served(
    make_model: MakeModel, compare: Compare
) -> None:
    model = counter()
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2), np.float32), "x"))
    more = 'input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }\n'
    compare(make_model("m", config(4, state("FP32", [2]), more=more), model))


def test_weights_outside_and_an_old_opset(
    make_model: MakeModel, compare: Compare, tmp_path: Path
) -> None:
    floats = TensorProto.FLOAT
    weights = np.random.default_rng(0).integers(-3, 3, (1, 200)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["s", "weights"], ["s.weighted"]),
        helper.make_node("Add", ["s.weighted", "x"], ["s_next"]),
    ]
    model = build(
        nodes,
        [value(name, floats, ["batch", 200]) for name in ("x", "s")],
        [value("s_next", floats, ["batch", 200])],
        {"weights": weights},
        opset=9,
        ir_version=4,
    )
    path = make_model("m", config(4, state("FP32", [200])))
    (path / "1").mkdir()
    file = str(path / "1" / "model.onnx")
    onnx.save(model, file, save_as_external_data=True, location="w", size_threshold=100)
    assert (path / "1" / "w").stat().st_size == weights.nbytes
    compare(path, highest=3)


def test_local_functions(make_model: MakeModel, compare: Compare) -> None:
    function = helper.make_function(
        "mine",
        "Advance",
        ["state", "x"],
        ["after"],
        [
            helper.make_node("Gelu", ["state"], ["gelu"]),  # came with opset 20
            helper.make_node("Round", ["gelu"], ["whole"]),
            helper.make_node("Add", ["whole", "x"], ["after"]),
        ],
        [helper.make_opsetid("", 20)],
    )
    floats = TensorProto.FLOAT
    model = build(
        [helper.make_node("Advance", ["s", "x"], ["s_next"], domain="mine")],
        [value(name, floats, ["batch", 2]) for name in ("x", "s")],
        [value("s_next", floats, ["batch", 2])],
        functions=[function],
    )
    del model.opset_import[0]  # nothing at the top is of the standard's own
    compare(make_model("m", config(4, state("FP32", [2])), model))


def test_no_input_but_the_state(make_model: MakeModel, compare: Compare) -> None:
    floats = TensorProto.FLOAT
    model = build(
        [helper.make_node("Add", ["s", "one"], ["s_next"])],
        [value("s", floats, ["batch", 2])],
        [value("s_next", floats, ["batch", 2])],
        {"one": np.float32(1)},
    )
    more = 'output { name: "s_next" data_type: TYPE_FP32 dims: [ 2 ] }\n'
    engine = compare(make_model("m", config(4, state("FP32", [2]), more=more), model))
    assert engine.read(np.array([0]))["s"].tolist() == [[0, 0]]


@pytest.mark.parametrize("max_batch_size", [0, 3])
def test_no_state(make_model: MakeModel, compare: Compare, max_batch_size: int) -> None:
    floats = TensorProto.FLOAT
    shape = ["batch", "time", 2] if max_batch_size else ["time", 2]
    model = build(
        [helper.make_node("Neg", ["x"], ["y"])],
        [value("x", floats, shape)],
        [value("y", floats, shape)],
        opset=7,
    )
    engine = compare(make_model("m", f"max_batch_size: {max_batch_size}", model))
    assert engine.arena is None


def repeated_by_x(shape: Sequence[int | str] | None, *, axis: int = 0) -> onnx.ModelProto:
    """The next `s` is `s`, repeated `x` times along the axis of its two units."""
    repeats = helper.make_node("Concat", ["one", "x"] if axis == 0 else ["x", "one"], ["r"], axis=0)
    return build(
        [repeats, helper.make_node("Tile", ["s", "r"], ["s_next"])],
        [value("x", INT64, [1]), value("s", TensorProto.FLOAT, shape)],
        [value("s_next", TensorProto.FLOAT, shape)],
        {"one": np.array([1])},
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_a_state_that_changes_its_shape_fails_the_step_and_nothing_else(
    make_model: MakeModel, axis: int
) -> None:
    model = repeated_by_x(["a", "b"], axis=axis)
    size, dims = 1, [2]
    more = parameter("state.s.batch_axis", str(axis))
    more += 'input { name: "x" data_type: TYPE_INT64 dims: [ ] } output { name: "s_next"'
    more += " data_type: TYPE_FP32 dims: [ 2 ] }"
    path = make_model("m", config(size, state("FP32", dims), more=more), model)
    engine = Engine(load(path)[0], provider="cpu", rows=9)
    everything = np.arange(9)
    engine.write(everything[1:], {"s": np.random.default_rng(0).random((8, 2), np.float32)})
    before = engine.read(everything)["s"]
    for repeats in (2, 0, 3):
        with pytest.raises(StepFailed) as caught:
            engine.run({"x": np.array([repeats])}, np.array([3]), np.array([4]))
        text = "model 'm' failed: it gave state 's' another shape than [2] for each row: "
        assert str(caught.value).startswith(text)
        after = engine.read(everything)["s"]
        kept = everything != 4
        np.testing.assert_array_equal(after[kept], before[kept])
    engine.run({"x": np.array([1])}, np.array([3]), np.array([5]))
    np.testing.assert_array_equal(engine.read(np.array([5]))["s"], before[3:4])


def test_without_a_batch_axis_a_state_of_another_shape_fails_as_well(make_model: MakeModel) -> None:
    """(1, 2) → (2, 2), which would fit if shapes could be guessed from the number of elements."""
    more = 'output { name: "s_next" data_type: TYPE_FP32 dims: [ 1, 2 ] }'
    text = config(0, state("FP32", [1, 2]), more=more)
    model = repeated_by_x(None)
    model.graph.node[0].input[:] = ["x", "one"]
    engine = Engine(load(make_model("m", text, model))[0], provider="cpu", rows=9)
    with pytest.raises(StepFailed, match=r"gave state 's' another shape than \[1, 2\]"):
        engine.run({"x": np.array([2])}, np.array([0]), np.array([4]))
    answer = engine.run({"x": np.array([1])}, np.array([0]), np.array([4]))
    assert answer["s_next"].shape == (1, 2)


def test_a_batch_that_the_model_adds_up_is_noticed_at_start(make_model: MakeModel) -> None:
    """One state for all rows is no state of a session, whatever the graph says of its shape."""
    floats = TensorProto.FLOAT
    model = build(
        [helper.make_node("ReduceSum", ["s", "axis"], ["s_next"], keepdims=1)],
        [value("x", floats, ["batch", 2]), value("s", floats, ["batch", 2])],
        [value("s_next", floats, ["batch", 2]), value("x", floats, ["batch", 2])],
        {"axis": np.array([0])},
    )
    path = make_model("m", config(4, state("FP32", [2])), model)
    with pytest.raises(StartupError, match="it gave state 's' another shape than"):
        Engine(load(path)[0], provider="cpu", rows=9)


def test_a_batch_of_one_that_the_exporter_took_for_granted_is_noticed_at_start(
    make_model: MakeModel,
) -> None:
    """The graph says any batch and any time, but a Reshape in it knows only one row."""
    floats = TensorProto.FLOAT
    model = build(
        [
            helper.make_node("Reshape", ["s", "one_row"], ["s.row"]),
            helper.make_node("ReduceSum", ["x", "time"], ["moves"], keepdims=0),
            helper.make_node("Add", ["s.row", "moves"], ["s_next"]),
            helper.make_node("Neg", ["moves"], ["y"]),
        ],
        [value("x", floats, ["batch", "time", 2]), value("s", floats, ["batch", 2])],
        [value("y", floats, ["batch", 2]), value("s_next", floats, ["batch", 2])],
        {"one_row": np.array([1, 2]), "time": np.array([1])},
    )
    path = make_model("m", config(4, state("FP32", [2])), model)
    with pytest.raises(
        StartupError, match=r"runs with a batch of 1, but not with 4: .* max_batch_siz"
    ):
        Engine(load(path)[0], provider="cpu", rows=9)
    Engine(
        load(make_model("one/m", config(1, state("FP32", [2])), model))[0], provider="cpu", rows=9
    )


def test_outputs_whose_batch_axis_the_exporter_forgot(
    make_model: MakeModel, compare: Compare
) -> None:
    model = counter()
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    compare(make_model("m", config(4, state("FP32", [2])), model))


def test_an_output_with_another_number_of_axes(make_model: MakeModel) -> None:
    """The configuration says so, and the graph does not tell."""
    more = """
    input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
    output { name: "y" data_type: TYPE_FP32 dims: [ -1, 2 ] }
    """
    text = config(4, state("FP32", [2]), more=more + parameter("time_axis.y", "1"))
    [spec] = load(make_model("m", text, counter(known=False)))
    expected = r"model.onnx: output 'y' has shape \[1, 2\]; expected 3 axes, as .* \[-1, -1, 2\]$"
    with pytest.raises(StartupError, match=expected):
        Engine(spec, provider="cpu", rows=9)
