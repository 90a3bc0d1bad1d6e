"""Control inputs and optional inputs: what they are read as, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.errors import StartupError
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tests.server.conftest import MakeModel

BATCHED = ("batch", 1)


def model_of(**inputs: tuple[int, Sequence[int | str] | None]) -> onnx.ModelProto:
    """`y` = `x` (batch, 2), and further inputs that nothing uses."""
    values = [
        helper.make_tensor_value_info(name, elem_type, shape)
        for name, (elem_type, shape) in inputs.items()
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x, *values], [y])
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def controls(text: str, *, size: int = 4) -> str:
    return f"max_batch_size: {size}\nsequence_batching {{ control_input {{ {text} }} }}\n"


def kind(name: str, rest: str) -> str:
    return f'name: "signal" control {{ kind: CONTROL_SEQUENCE_{name} {rest} }}'


@pytest.mark.parametrize(
    ("text", "elem_type", "signal", "false_true"),
    [
        (kind("START", "int32_false_true: [ 0, 1 ]"), TensorProto.INT32, "start", (0, 1)),
        (kind("END", "fp32_false_true: [ -1, 0.5 ]"), TensorProto.FLOAT, "end", (-1, 0.5)),
        (
            kind("END", "fp32_false_true: [ 0, 1 ] data_type: TYPE_FP32"),
            TensorProto.FLOAT,
            "end",
            (0, 1),
        ),
        (kind("READY", "bool_false_true: [ true, false ]"), TensorProto.BOOL, "ready", (1, 0)),
        (kind("CORRID", "data_type: TYPE_UINT64"), TensorProto.UINT64, "id", (0, 1)),
        (kind("CORRID", "data_type: TYPE_INT64"), TensorProto.INT64, "id", (0, 1)),
        (kind("CORRID", "data_type: TYPE_UINT32"), TensorProto.UINT32, "id", (0, 1)),
        (kind("CORRID", "data_type: TYPE_INT32"), TensorProto.INT32, "id", (0, 1)),
    ],
)
def test_a_control_input(
    make_model: MakeModel,
    text: str,
    elem_type: int,
    signal: str,
    false_true: tuple[float, float],
) -> None:
    path = make_model("m", controls(text), model_of(signal=(elem_type, BATCHED)))
    [spec] = load(path)
    [control] = spec.controls
    assert (control.signal, (control.false, control.true)) == (signal, false_true)
    assert control.tensor.dtype == helper.tensor_dtype_to_np_dtype(elem_type)
    assert [tensor.name for tensor in spec.inputs] == ["x"]
    assert [tensor.name for tensor in spec.fed] == ["x", "signal"]
    assert [tensor.name for tensor in spec.config.input] == ["x"]


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        (4, ["batch", 1], (-1, 1)),
        (4, ["batch", "one"], (-1, 1)),
        (4, ["batch"], (-1,)),
        (4, ["batch", 1, 1], (-1, 1, 1)),
        (4, None, (-1, 1)),
        (1, [1, 1], (-1, 1)),
        (1, [1], (-1,)),
        (0, [1], (1,)),
        (0, [], ()),
        (0, [1, 1], (1, 1)),
        (0, None, (1,)),
    ],
)
def test_the_graph_says_which_shape_a_control_input_has(
    make_model: MakeModel, size: int, shape: list[int | str] | None, expected: tuple[int, ...]
) -> None:
    text = kind("START", "bool_false_true: [ false, true ]")
    path = make_model("m", controls(text, size=size), model_of(signal=(TensorProto.BOOL, shape)))
    assert load(path)[0].controls[0].tensor.shape == expected


START = kind("START", "fp32_false_true: [ 0, 1 ]")
REFUSED = [
    (
        START.replace("signal", "sigma"),
        "control_input 'sigma': the model has no such input; it has",
    ),
    (START.replace("signal", "signa"), "it has: other, signal, words, x (did you mean 'signal'?)"),
    ('name: "signal"', "control_input 'signal': 0 control; expected one"),
    (
        START + " control { fp32_false_true: [ 0, 1 ] }",
        "control_input 'signal': 2 control; expected one",
    ),
    (f"{START} }} control_input {{ {START}", "control_input 'signal': stands there twice"),
    (
        f"{START} }} control_input {{ {START.replace('signal', 'other')}",
        "control_input 'other': CONTROL_SEQUENCE_START goes to 'signal' already",
    ),
    (
        kind("START", ""),
        "control_input 'signal': none; expected one of int32_false_true, fp32_false_true",
    ),
    (
        kind("END", "fp32_false_true: [ 0, 1 ] int32_false_true: [ 0, 1 ]"),
        "control_input 'signal': int32_false_true, fp32_false_true; expected one of",
    ),
    (
        kind("END", "fp32_false_true: [ 0, 1 ] data_type: TYPE_INT32"),
        "control_input 'signal': fp32_false_true with data_type TYPE_INT32; expected TYPE_FP32",
    ),
    (
        kind("READY", "fp32_false_true: [ 1 ]"),
        "control_input 'signal': fp32_false_true [1.0]; expected two values, false and true",
    ),
    (
        kind("START", "int32_false_true: [ 0, 1 ]"),
        "control_input 'signal': TYPE_INT32; the model has TYPE_FP32",
    ),
    (
        START.replace("signal", "words"),
        "control_input 'words': type STRING is not supported; the model has it for 'words'",
    ),
    (
        kind("CORRID", "data_type: TYPE_STRING"),
        "control_input 'signal': data_type TYPE_STRING; expected one of TYPE_UINT64, TYPE_INT64,",
    ),
    (
        kind("END", "fp32_false_true: [ 0, 1 ] data_type: 99"),
        "control_input 'signal': fp32_false_true with data_type 99; expected TYPE_FP32",
    ),
    (
        kind("CORRID", "data_type: 99"),
        "control_input 'signal': data_type 99; expected one of TYPE_UINT64, TYPE_INT64,",
    ),
    ('name: "signal" control { kind: 9 }', "control_input 'signal': kind 9 is not known"),
    (
        kind("CORRID", "data_type: TYPE_FP32"),
        "control_input 'signal': data_type TYPE_FP32; expected one of TYPE_UINT64",
    ),
    (
        kind("CORRID", ""),
        "control_input 'signal': data_type TYPE_INVALID; expected one of TYPE_UINT",
    ),
    (
        kind("CORRID", "data_type: TYPE_INT64 int32_false_true: [ 0, 1 ]"),
        "control_input 'signal': int32_false_true; expected data_type alone, for an id",
    ),
    (
        kind("CORRID", "data_type: TYPE_INT64"),
        "control_input 'signal': TYPE_INT64; the model has TYPE_FP32",
    ),
]


@pytest.mark.parametrize(("text", "answer"), REFUSED, ids=[each[1][:70] for each in REFUSED])
def test_what_is_refused(make_model: MakeModel, text: str, answer: str) -> None:
    model = model_of(
        signal=(TensorProto.FLOAT, BATCHED),
        other=(TensorProto.FLOAT, BATCHED),
        words=(TensorProto.STRING, BATCHED),
    )
    path = make_model("m", controls(text), model)
    with pytest.raises(StartupError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path / 'config.pbtxt'}: ")
    assert answer in str(caught.value)


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }\n'
            'input { name: "signal" data_type: TYPE_FP32 dims: [ 1 ] }\n',
            "control_input 'signal': in input too; expected it in one of the two",
        ),
        (
            'parameters { key: "rnnserve.constant.signal" value { string_value: "1" } }',
            "rnnserve.constant 'signal': in control_input too; expected it in one of the two",
        ),
    ],
)
def test_somebody_else_feeds_it(make_model: MakeModel, more: str, answer: str) -> None:
    config = controls(START) + more
    path = make_model("m", config, model_of(signal=(TensorProto.FLOAT, BATCHED)))
    with pytest.raises(StartupError) as caught:
        load(path)
    assert str(caught.value) == f"{path / 'config.pbtxt'}: {answer}"


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        (4, ["batch", 2], "[-1, 2]; expected [-1, 1] or [-1], of which axis 0 is the batch"),
        (4, [1, 1], "[1, 1]; expected [-1, 1] or [-1], of which axis 0 is the batch"),
        (4, [], "[]; expected [-1, 1] or [-1], of which axis 0 is the batch"),
        (0, [2], "[2]; expected [1] or []"),
    ],
)
def test_shapes_that_no_signal_has(
    make_model: MakeModel, size: int, shape: list[int | str], expected: str
) -> None:
    path = make_model("m", controls(START, size=size), model_of(signal=(TensorProto.FLOAT, shape)))
    with pytest.raises(StartupError) as caught:
        load(path)
    assert str(caught.value).endswith(f": control_input 'signal': the model has {expected}")


# ---- inputs that may be left out ----------------------------------------------------------------

DEFAULT = "parameters { key: 'rnnserve.default.gain' value { string_value: '%s' } }\n"
INPUTS = """max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
input { name: "gain" data_type: TYPE_%s dims: [ %s ] optional: true }
"""


@pytest.mark.parametrize(
    ("type_name", "text", "expected"),
    [("FP32", "0.25", 0.25), ("INT64", "-3", -3), ("BOOL", "true", True), ("BOOL", "1", True)],
)
def test_an_optional_input_has_a_default(
    make_model: MakeModel, type_name: str, text: str, expected: float
) -> None:
    elem_type = {"FP32": TensorProto.FLOAT, "INT64": INT64, "BOOL": TensorProto.BOOL}[type_name]
    model = model_of(gain=(elem_type, ["batch", "time", 3]))
    time = "parameters { key: 'rnnserve.time_axis.gain' value { string_value: '1' } }\n"
    config = INPUTS % (type_name, "-1, 3") + DEFAULT % text + time
    [spec] = load(make_model("m", config, model))
    x, gain = spec.inputs
    assert x.default is None
    assert gain.default is not None
    assert (gain.default.shape, gain.default.dtype) == ((), gain.dtype)
    assert gain.default == expected
    assert not gain.default.flags.writeable
    assert spec.config.input[1].optional


INT64 = TensorProto.INT64
GAIN = INPUTS % ("FP32", "3")


@pytest.mark.parametrize(
    ("config", "answer"),
    [
        (
            GAIN,
            "input 'gain': optional, but the model's file has no value for it; expected a parameter"
            " rnnserve.default.gain, a number",
        ),
        (
            GAIN.replace("optional: true", "") + DEFAULT % "1",
            "parameters: rnnserve.default.gain: expected optional: true in input 'gain'",
        ),
        (
            GAIN.replace("optional: true", "") + DEFAULT.replace("gain", "gian") % "1",
            "parameters: rnnserve.default.gian: no such input; there is: gain, x (did you",
        ),
        (
            GAIN + DEFAULT % "[1]",
            "parameters: rnnserve.default.gain: '[1]'; expected a number, true or false",
        ),
        (
            GAIN + DEFAULT % "all.npy",
            "parameters: rnnserve.default.gain: 'all.npy'; expected a number, true or false",
        ),
        (GAIN + DEFAULT % "1e39", "parameters: rnnserve.default.gain: '1e39': 1e+39 is no FP32"),
        (
            INPUTS % ("FP32", "-1") + DEFAULT % "1",
            "parameters: rnnserve.default.gain: the input has the shape [-1, -1]; expected no",
        ),
    ],
)
def test_defaults_that_are_refused(make_model: MakeModel, config: str, answer: str) -> None:
    size: int | str = "any" if "[ -1 ]" in config else 3
    path = make_model("m", config, model_of(gain=(TensorProto.FLOAT, ["batch", size])))
    with pytest.raises(StartupError) as caught:
        load(path)
    assert f"config.pbtxt: {answer}" in str(caught.value)


def test_numbers_come_through_exactly(make_model: MakeModel) -> None:
    model = model_of(gain=(INT64, ["batch"]))
    config = INPUTS % ("INT64", "") + DEFAULT % str(2**63 - 1)
    [spec] = load(make_model("m", config, model))
    np.testing.assert_array_equal(spec.inputs[1].default, 2**63 - 1)


# ---- values in the file -------------------------------------------------------------------------


def with_value(
    value: NDArray[Any], shape: Sequence[int | str], *, elem_type: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    model = model_of(gain=(elem_type, shape))
    model.graph.initializer.append(numpy_helper.from_array(value, "gain"))
    return model


KEYS = "parameters { key: 'rnnserve.%s.gain' value { string_value: '1' } }\n"
ROW = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize(
    ("size", "text", "value", "shape", "expected"),
    [
        (4, "dims: [ 6 ]", ROW[None], ["batch", 6], ROW),
        (4, "dims: [ ]", ROW[:1], ["batch"], ROW[0]),
        (4, "dims: [ 2, 3 ] reshape { shape: [ 6 ] }", ROW[None], ["b", 6], ROW.reshape(2, 3)),
        (0, "dims: [ 6 ]", ROW, [6], ROW),
        (0, "dims: [ 3, 2 ] reshape { shape: [ 6 ] }", ROW, [6], ROW.reshape(3, 2)),
        (0, "dims: [ 1 ]", ROW[1], [], ROW[1:2]),
    ],
)
def test_the_value_in_the_file_is_the_default(
    make_model: MakeModel,
    size: int,
    text: str,
    value: NDArray[Any],
    shape: list[int | str],
    expected: NDArray[Any],
) -> None:
    x = 'input { name: "x" data_type: TYPE_FP32 dims: [ %s ] }' % ("2" if size else "-1, 2")
    gain = f'input {{ name: "gain" data_type: TYPE_FP32 {text} optional: true }}'
    path = make_model("m", f"max_batch_size: {size} {x} {gain}", with_value(value, shape))
    default = load(path)[0].inputs[1].default
    assert default is not None
    assert default.dtype == np.float32
    assert not default.flags.writeable
    np.testing.assert_array_equal(default, expected)


def test_it_counts_for_every_timestep_and_wherever_the_batch_axis_is(make_model: MakeModel) -> None:
    gain = 'input { name: "gain" data_type: TYPE_FP32 dims: [ -1, 6 ] optional: true }\n'
    text = INPUTS.partition('input { name: "gain"')[0] + gain
    text += KEYS % "time_axis" + KEYS % "batch_axis"
    path = make_model("m", text, with_value(ROW[None, None], ["time", "batch", 6]))
    gain_spec = load(path)[0].inputs[1]
    assert (gain_spec.shape, gain_spec.graph_axis) == ((-1, -1, 6), 1)
    np.testing.assert_array_equal(gain_spec.default, ROW[None])


def test_the_number_in_the_configuration_goes_before_it(make_model: MakeModel) -> None:
    text = INPUTS % ("FP32", "6") + DEFAULT % "0.5"
    [spec] = load(make_model("m", text, with_value(ROW[None], ["batch", 6])))
    assert spec.inputs[1].default == 0.5


def test_it_may_lie_in_a_file_of_its_own(make_model: MakeModel) -> None:
    path = make_model("m", INPUTS % ("FP32", "6"), with_value(ROW[None], ["batch", 6]))
    model = onnx.load(str(path / "1" / "model.onnx"))
    onnx.save(
        model,
        str(path / "1" / "model.onnx"),
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
    )
    assert (path / "1" / "weights").stat().st_size >= ROW.nbytes
    np.testing.assert_array_equal(load(path)[0].inputs[1].default, ROW)


@pytest.mark.parametrize(
    ("dims", "value", "shape", "answer"),
    [
        (
            "6",
            np.ones((2, 6), np.float32),
            ["batch", 6],
            "optional, and the model's file has float32 [2, 6] for it; expected float32 [1, 6], or"
            " a parameter rnnserve.default.gain, a number",
        ),
        (
            "6",
            ROW,
            ["batch", 6],
            "optional, and the model's file has float32 [6] for it; expected float32 [1, 6], or",
        ),
        (
            "6",
            ROW[None].astype(np.float64),
            ["batch", 6],
            "optional, and the model's file has float64 [1, 6] for it; expected float32 [1, 6], or",
        ),
        (
            "-1",
            ROW[None],
            ["batch", "any"],
            "the input has the shape [-1, -1]; expected no axis of any size other than the batch's",
        ),
        ("6", ROW[None], [1, 6], "the model's batch axis is fixed at 1; expected one of any size"),
    ],
)
def test_values_that_are_no_row(
    make_model: MakeModel,
    dims: str,
    value: NDArray[Any],
    shape: list[int | str],
    answer: str,
) -> None:
    path = make_model("m", INPUTS % ("FP32", dims), with_value(value, shape))
    with pytest.raises(StartupError) as caught:
        load(path)
    assert f"config.pbtxt: input 'gain': {answer}" in str(caught.value)
