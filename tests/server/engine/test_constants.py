"""Inputs that no request carries, compared with plain ONNX Runtime that is given them each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server import datatypes
from server.engine.engine import Engine
from server.errors import StartupError
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.server.conftest import MakeModel
    from tests.server.engine.conftest import Compare

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, elem_type: int, shape: Sequence[int | str] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, shape)


def model_with(
    elem_type: int, shape: Sequence[int | str] | None, *, opset: int = 18, states: bool = True
) -> onnx.ModelProto:
    """s_next = s + x · c, with `c` of any type and shape; `y` is the same, and `c_out` is `c`."""
    nodes = [
        helper.make_node("Cast", ["c"], ["c.float"], to=FLOAT),
        helper.make_node("Mul", ["x", "c.float"], ["x.c"]),
        helper.make_node("Add", ["s" if states else "x", "x.c"], ["s_next"]),
        helper.make_node("Identity", ["s_next"], ["y"]),
    ]
    inputs = [value("x", FLOAT, ["batch", 2]), value("c", elem_type, shape)]
    outputs = [value("y", FLOAT, ["batch", 2])]
    if states:
        inputs.append(value("s", FLOAT, ["batch", 2]))
        outputs.append(value("s_next", FLOAT, ["batch", 2]))
    graph = helper.make_graph(nodes, "scaled", inputs, outputs)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


STATE = """sequence_batching {
  state { input_name: "s" output_name: "s_next" data_type: TYPE_FP32 dims: [ 2 ] }
}
"""


def config(text: str, *, size: int = 4, more: str = STATE) -> str:
    parameter = f'parameters {{ key: "rnnserve.constant.c" value {{ string_value: "{text}" }} }}\n'
    return f"max_batch_size: {size}\n{more}{parameter}"


def save(model_dir: Path, name: str, array: Any) -> None:
    (model_dir / "constants").mkdir(exist_ok=True)
    np.save(model_dir / "constants" / name, array)


@pytest.mark.parametrize(
    ("text", "type_name", "shape", "given"),
    [
        ("3", "FP32", [], np.float32(3)),
        ("0.1", "FP32", [], np.float32(0.1)),
        ("16000", "INT64", [], np.int64(16000)),
        ("-2", "INT32", [1], np.array([-2])),
        ("7", "FP16", [1, 2], np.array([[7, 7]])),
        ("true", "BOOL", [], np.bool_(True)),
        ("0", "BOOL", [], np.bool_(False)),
        ("250", "UINT8", [1], np.array([250])),
        ("18446744073709551615", "UINT64", [1], np.array([2**64 - 1], np.uint64)),
        ("[2, 3]", "FP32", [2], np.array([2, 3])),
        ("[[2, 3]]", "FP64", [1, 2], np.array([[2, 3]])),
        ("[true, false]", "BOOL", [2], np.array([True, False])),
        ("2", "FP32", None, np.float32(2)),
        # the first axis is the batch: a row
        ("5", "INT64", ["batch", 1], np.array([[5]])),
        ("5", "FP32", ["batch", 2], np.array([[5, 5]])),
        ("[5, 6]", "FP32", ["batch", 2], np.array([[5, 6]])),
        ("[[5, 6]]", "FP32", ["batch", 2], np.array([[5, 6]])),
        ("[true, false]", "BOOL", ["batch", 2], np.array([[True, False]])),
    ],
)
@pytest.mark.parametrize("opset", [9, 18])
@pytest.mark.parametrize("states", [True, False], ids=["states", "no states"])
def test_numbers_and_lists(
    make_model: MakeModel,
    compare: Compare,
    text: str,
    type_name: str,
    shape: list[int | str] | None,
    given: Any,
    opset: int,
    states: bool,
) -> None:
    datatype = datatypes.BY_NAME[type_name]
    model = model_with(datatype.onnx, shape, opset=opset, states=states)
    path = make_model("m", config(text, more=STATE if states else ""), model)
    engine = compare(path, given={"c": np.asarray(given, datatype.dtype)})
    assert engine.spec.fixed[0].per_row == bool(shape and shape[0] == "batch")
    assert [tensor.name for tensor in engine.spec.inputs] == ["x"]
    assert [tensor.name for tensor in engine.spec.config.input] == ["x"]


def test_a_row_of_one_number(make_model: MakeModel, compare: Compare) -> None:
    """As the `lengths` of other people's models, (batch,): `total` adds it up."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Cast", ["lengths"], ["lengths.float"], to=FLOAT),
                helper.make_node("Add", ["total", "lengths.float"], ["sum"]),
                helper.make_node("Add", ["sum", "x"], ["total_next"]),
                helper.make_node("Identity", ["total_next"], ["y"]),
            ],
            "lengths",
            [value("lengths", INT64, ["n"]), *(value(n, FLOAT, ["n"]) for n in ("x", "total"))],
            [value(name, FLOAT, ["n"]) for name in ("y", "total_next")],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    text = """max_batch_size: 4
    sequence_batching {
      state { input_name: "total" output_name: "total_next" data_type: TYPE_FP32 dims: [ ] }
    }
    parameters { key: "rnnserve.constant.lengths" value { string_value: "7" } }
    """
    compare(make_model("m", text, model), given={"lengths": np.array([7])})


@pytest.mark.parametrize("stored", [np.float32, np.int16, np.float64])
def test_files(make_model: MakeModel, compare: Compare, stored: type) -> None:
    path = make_model("m", config("scale.npy"), model_with(FLOAT, [1, 2]))
    save(path, "scale.npy", np.array([[2, 5]], stored))
    compare(path, given={"c": np.array([[2, 5]], np.float32)})
    [before] = load(path)
    save(path, "scale.npy", np.array([[2, 6]], stored))
    [after] = load(path)
    assert before.digest != after.digest


def test_dims_tell_whether_the_first_axis_is_the_batch(
    make_model: MakeModel, compare: Compare
) -> None:
    """With its full dims a constant has no batch axis, whatever the graph calls it."""
    model = model_with(FLOAT, ["any", 2])
    inputs = """
    input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
    input { name: "c" data_type: TYPE_FP32 dims: [ 1, 2 ] }
    """
    path = make_model("whole/m", config("[[5, 6]]", more=STATE + inputs), model)
    whole = compare(path, given={"c": np.array([[5, 6]], np.float32)})
    assert not whole.spec.fixed[0].per_row
    by_row = inputs.replace("[ 1, 2 ]", "[ 2 ]")
    path = make_model("row/m", config("[5, 6]", more=STATE + by_row), model)
    row = compare(path, given={"c": np.array([[5, 6]], np.float32)})
    assert row.spec.fixed[0].per_row


def test_dims_tell_the_shape_that_the_graph_does_not(
    make_model: MakeModel, compare: Compare
) -> None:
    inputs = """
    input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
    input { name: "c" data_type: TYPE_FP32 dims: [ 2 ] }
    """
    path = make_model("m", config("[5, 6]", more=STATE + inputs), model_with(FLOAT, None))
    engine = compare(path, given={"c": np.array([[5, 6]], np.float32)})
    assert engine.spec.fixed[0].per_row
    wrong = inputs.replace('"c" data_type: TYPE_FP32', '"c" data_type: TYPE_FP64')
    (path / "config.pbtxt").write_text(config("[5, 6]", more=STATE + wrong))
    with pytest.raises(StartupError, match="input 'c': data_type TYPE_FP64; the model has TYPE_FP"):
        load(path)


@pytest.mark.parametrize("shape", [["n", 2], [1, 2]])
def test_dims_that_contradict_the_graph(make_model: MakeModel, shape: list[int | str]) -> None:
    inputs = """
    input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
    input { name: "c" data_type: TYPE_FP32 dims: [ 3 ] }
    """
    path = make_model("m", config("1", more=STATE + inputs), model_with(FLOAT, shape))
    with pytest.raises(
        StartupError, match=r"config.pbtxt: input 'c': dims \[3\]; the model has \["
    ):
        load(path)


def test_a_value_in_the_file_gives_way(make_model: MakeModel, compare: Compare) -> None:
    model = model_with(FLOAT, [1])
    model.graph.initializer.append(numpy_helper.from_array(np.array([9], np.float32), "c"))
    compare(make_model("a/m", config("4"), model), given={"c": np.array([4], np.float32)})
    without = config("4").replace("rnnserve.constant.c", "of.somebody.else")
    engine = compare(make_model("b/m", without, model))
    assert engine.spec.fixed == ()


@pytest.mark.parametrize("max_batch_size", [0, 1, 4])
@pytest.mark.parametrize("dims", [(), (2,), (1, 2)])
@pytest.mark.parametrize("type_name", ["FP32", "INT64", "BOOL", "FP16"])
def test_constants_of_a_session(
    make_model: MakeModel,
    compare: Compare,
    max_batch_size: int,
    dims: tuple[int, ...],
    type_name: str,
) -> None:
    """They ride along with the state, and each session has its own."""
    if max_batch_size and dims != (2,):
        dims = (1,) if not dims else (2,)
    datatype = datatypes.BY_NAME[type_name]
    shape = ["batch", *dims] if max_batch_size else list(dims)
    model = model_with(datatype.onnx, shape)
    more = STATE
    if max_batch_size == 0:
        for tensor in (*model.graph.input, *model.graph.output):
            if tensor.name != "c":
                tensor.CopyFrom(value(tensor.name, FLOAT, [1, 2]))
        more = STATE.replace("[ 2 ]", "[ 1, 2 ]")
    path = make_model("m", config("session", size=max_batch_size, more=more), model)
    engine = compare(path)
    [constant] = engine.spec.constants
    assert (constant.output, constant.shape, constant.datatype) == ("", dims, type_name)
    assert constant.batch_axis == (0 if max_batch_size else None)
    assert [tensor.name for tensor in engine.spec.inputs] == ["x"]
    assert engine.spec.state_nbytes == 8 + constant.nbytes


def test_a_session_may_have_constants_and_no_state(make_model: MakeModel, compare: Compare) -> None:
    inputs = """
    input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
    input { name: "c" data_type: TYPE_FP32 dims: [ 2 ] }
    """
    model = model_with(FLOAT, None, states=False)
    engine = compare(make_model("m", config("session", more=inputs), model))
    assert engine.spec.states == ()
    assert engine.spec.constants[0].shape == (2,)


def test_nobody_tells_how_many_rows(make_model: MakeModel) -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Neg", ["c"], ["y"])],
            "alone",
            [value("c", FLOAT, ["batch", 2])],
            [value("y", FLOAT, ["batch", 2])],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    path = make_model("m", config("1", more=""), model)
    with pytest.raises(StartupError, match=r"max_batch_size: 4, but nothing that a request carr"):
        load(path)
    engine = Engine(
        load(make_model("b/m", config("[[1, 2]]", size=0, more=""), model))[0],
        provider="cpu",
        rows=1,
    )
    answer = engine.run({}, np.zeros(0, np.int64), np.zeros(0, np.int64))
    np.testing.assert_array_equal(answer["y"], [[-1, -2]])


REFUSED = [
    ("x", FLOAT, [], "'x'; expected a number, true, false, a list of them such as [[1, 2], [3, 4]"),
    ("", FLOAT, [], "''; expected a number"),
    ("null", FLOAT, [], "'null'; expected a number"),
    ('\\"abc\\"', FLOAT, [], "expected a number"),
    ("{}", FLOAT, [], "'{}'; expected a number"),
    ("[1, [2]]", FLOAT, [2], "'[1, [2]]'; expected a number"),
    ("16000.5", INT64, [], "'16000.5': 16000.5 is no INT64"),
    ("[1, 2.5]", INT64, [2], "'[1, 2.5]': 2.5 is no INT64"),
    ("300", TensorProto.UINT8, [], "'300': 300 is no UINT8"),
    ("-1", TensorProto.UINT64, [], "'-1': -1 is no UINT64"),
    ("9007199254740993", TensorProto.DOUBLE, [], ": 9007199254740993 is no FP64"),
    ("9223372036854775808", INT64, [], ": 9223372036854775808 is no INT64"),
    ("1e39", FLOAT, [], "'1e39': 1e+39 is no FP32"),
    ("70000.0", TensorProto.FLOAT16, [], ": 70000.0 is no FP16"),
    ("2", TensorProto.BOOL, [], "'2': 2 is no BOOL"),
    ("NaN", INT64, [], "'NaN': nan is no INT64"),
    ("1", TensorProto.STRING, [], "type STRING is not supported; the model has it for 'c'"),
    ("1", FLOAT, ["n", "k"], "a number; the model has [-1, -1], of which axis 0 is the batch; exp"),
    ("[1, 2, 3]", FLOAT, [2], "shape [3]; the model has [2]"),
    (
        "[1, 2, 3]",
        FLOAT,
        ["n", 2],
        "shape [3]; the model has [-1, 2], of which axis 0 is the batch;",
    ),
    ("[[1, 2], [3, 4]]", FLOAT, ["n", 2], "expected one row, [2], or an input 'c' with dims that"),
    ("../c.npy", FLOAT, [], "'../c.npy'; expected a file in constants/"),
    ("nowhere.npy", FLOAT, [], "constants/nowhere.npy: No such file or directory"),
    ("text.npy", FLOAT, [], "constants/text.npy: expected an array of numbers, as numpy.save has"),
    ("words.npy", FLOAT, [], "constants/words.npy: expected an array of numbers"),
    ("zip.npy", FLOAT, [], "constants/zip.npy: expected an array of numbers, as numpy.save has"),
    ("huge.npy", FLOAT, [], "constants/huge.npy: expected an array of numbers, as numpy.save has"),
    ("[" * 5000 + "]" * 5000, FLOAT, [], f"'{'[' * 60} …'; expected a number, true, false, a list"),
    ("half.npy", INT64, [1], "'half.npy': 0.5 is no INT64"),
    ("session", FLOAT, ["n", "k"], "dims [-1]; expected sizes: a session keeps so many"),
    (
        "session",
        FLOAT,
        [],
        "the model does not tell its shape, or has no batch axis for it; expect",
    ),
    ("session", FLOAT, None, "the model does not tell its shape, or has no batch axis for it; exp"),
]


@pytest.mark.parametrize(
    ("text", "elem_type", "shape", "answer"), REFUSED, ids=[each[3][:40] for each in REFUSED]
)
def test_what_is_refused(
    make_model: MakeModel,
    text: str,
    elem_type: int,
    shape: list[int | str] | None,
    answer: str,
) -> None:
    path = make_model("m", config(text), model_with(elem_type, shape))
    save(path, "half.npy", np.array([0.5]))
    save(path, "words.npy", np.array(["a", "b"]))
    (path / "constants" / "text.npy").write_text("1 2 3")
    (path / "constants" / "zip.npy").write_bytes(b"PK\x03\x04 and nothing else")
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**13,)}
    with (path / "constants" / "huge.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(StartupError) as caught:
        load(path)
    start = f"{path / 'config.pbtxt'}: parameters: rnnserve.constant.c: "
    assert str(caught.value).startswith(start)
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)
