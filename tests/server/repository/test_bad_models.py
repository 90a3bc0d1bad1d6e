"""Every way to get a model directory wrong, and the one line that it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from server.errors import StartupError
from server.repository.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.conftest import LstmModel, MakeModel


def refusal(path: Path) -> str:
    with pytest.raises(StartupError) as caught:
        load(path)
    text = str(caught.value)
    assert "\n" not in text
    return text


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\nname:'


# (text of the good configuration, what stands there instead, the answer after the file's name)
EDITS = [
    (
        "max_batch_size: 8",
        "max_batch_sise: 8",
        ':4: Message type "inference.ModelConfig" has no field named "max_batch_sise".',
    ),
    ('name: "lstm"', 'name: "gru"', ": name: 'gru'; expected 'lstm', the directory's name"),
    (
        "onnxruntime_onnx",
        "tensorflow_savedmodel",
        ": platform: 'tensorflow_savedmodel'; expected 'onnxruntime_onnx'",
    ),
    ('backend: "onnxruntime"', 'backend: "x"', ": backend: 'x'; expected 'onnxruntime'"),
    (
        "name:",
        'runtime: "model.py"\nname:',
        ": runtime: 'model.py'; expected none, or 'libtr",
    ),
    (
        "name:",
        'metric_tags { key: "model" value: "x" }\nname:',
        ": metric_tags: 'model'; expected a name of letters, digits and _ that is none of model,",
    ),
    (
        "name:",
        'metric_tags { key: "__name__" value: "x" }\nname:',
        ": metric_tags: '__name__'; expected a name of letters, digits and _",
    ),
    (
        "dims: [ -1, 3 ]",
        "dims: [ -1, 3 ] format: FORMAT_NHWC",
        ": input 'frames': format FORMAT_NHWC with dims [-1, 3]; expected three",
    ),
    ("dims: [ -1, 3 ]", "dims: [ -1, 3 ] format: 7", ": input 'frames': format 7 is not known"),
    ("max_batch_size: 8", "max_batch_size: -1", ": max_batch_size: -1; expected 0 or more"),
    (
        "max_batch_size: 8",
        "max_batch_size: 0",
        ": state 'h': dims [4]; the model has [-1, 4]: with max_batch_size: 0 dims count every"
        " axis",
    ),
    (
        "max_batch_size: 8",
        "max_batch_size: 8 default_model_filename: '../m'",
        ": default_model_filename: '../m'; expected a file in ",
    ),
    (
        'name: "frames"',
        'name: "framez"',
        ": input 'framez': the model has no such input; it has: c, frames, h (did you mean"
        " 'frames'?)",
    ),
    (
        'name: "y"',
        'name: "z"',
        ": output 'z': the model has no such output; it has: c_next, h_next, y",
    ),
    (
        'frames" data_type: TYPE_FP32',
        'frames" data_type: TYPE_FP16',
        ": input 'frames': data_type TYPE_FP16; the model has TYPE_FP32",
    ),
    (
        'frames" data_type: TYPE_FP32',
        'frames" data_type: TYPE_STRING',
        ": input 'frames': data_type TYPE_STRING is not supported",
    ),
    (
        "dims: [ -1, 3 ]",
        "dims: [ -1, 13 ]",
        ": input 'frames': dims [-1, 13]; the model has [-1, -1, 3], of which axis 0 is the batch",
    ),
    (
        "dims: [ -1, 3 ]",
        "dims: [ 3 ]",
        ": input 'frames': dims [3]; the model has [-1, -1, 3], of which axis 0 is the batch",
    ),
    (
        "dims: [ -1, 3 ]",
        "dims: [ 0, 3 ]",
        ": input 'frames': dims [0, 3]; expected sizes of 1 or more, or -1 for any",
    ),
    (
        "output [ {",
        'output [ { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] }, {',
        ": output 'y': stands there twice",
    ),
    (
        "input [ {",
        'input [ { name: "h" data_type: TYPE_FP32 dims: [ 4 ] }, {',
        ": state 'h': in input too; expected it in one of the two",
    ),
    (
        '{ input_name: "c" output_name: "c_next" data_type: TYPE_FP32 dims: [ 4 ] }',
        "",
        ":16: ' ]': Expected \"{\".",
    ),
    (
        ',\n    { input_name: "c" output_name: "c_next" data_type: TYPE_FP32 dims: [ 4 ] }',
        "",
        ": model input 'c': nobody feeds it; expected it in input, in sequence_batching.state or"
        " control_input, or a parameter rnnserve.constant.c",
    ),
    (
        'input_name: "c"',
        'input_name: "h"',
        ": state: input_name 'h'; expected a name of its own for each state",
    ),
    (
        'output_name: "c_next"',
        'output_name: "h_next"',
        ": state: output_name 'h_next'; expected a name of its own for each state",
    ),
    ('input_name: "c"', "", ": state: input_name ''; expected a name of its own for each state"),
    (
        'output_name: "c_next"',
        'output_name: "c_after"',
        ": state 'c', output_name 'c_after': the model has no such output; it has: c_next, h_next,"
        " y",
    ),
    (
        'c_next" data_type: TYPE_FP32',
        'c_next" data_type: TYPE_FP64',
        ": state 'c': data_type TYPE_FP64; the model has TYPE_FP32",
    ),
    (
        'c_next" data_type: TYPE_FP32 dims: [ 4 ]',
        'c_next" data_type: TYPE_FP32 dims: [ 5 ]',
        ": state 'c': dims [5]; the model has [-1, 4], of which axis 0 is the batch",
    ),
    (
        "{ data_type: TYPE_FP32 dims: [ 4 ] zero_data",
        "{ data_type: TYPE_FP32 dims: [ 5 ] zero_data",
        ": state 'h': initial_state's dims [5]; the state has [4]",
    ),
    (
        "{ data_type: TYPE_FP32 dims: [ 4 ] zero_data",
        "{ data_type: TYPE_FP64 dims: [ 4 ] zero_data",
        ": state 'h': initial_state's data_type differs from the state's",
    ),
    (
        "initial_state {",
        "initial_state { data_type: TYPE_FP32 } initial_state {",
        ": state 'h': 2 initial_state; expected at most 1",
    ),
    ("zero_data: true", 'data_file: "nowhere"', "/initial_state/nowhere: No such file"),
    (
        "zero_data: true",
        'data_file: "../config.pbtxt"',
        ": state 'h': data_file '../config.pbtxt'; expected a file in initial_state/",
    ),
    ("zero_data: true", 'data_file: "short"', "short: 12 bytes; expected 16 for FP32 [4]"),
    (
        "name:",
        parameter("rnnserve.tempo", "1"),
        ": parameters: rnnserve.tempo: not known; expected one of rnnserve.time_axis.<tensor>,"
        " rnnserve.batch_axis.<tensor>, rnnserve.may_be_cut,"
        " rnnserve.state.<input_name>.batch_axis, rnnserve.constant.<input>, rnnserve.default.<in",
    ),
    (
        "name:",
        parameter("rnnserve.time_axis.h", "1"),
        ": parameters: rnnserve.time_axis.h: no such input or output; there is: frames, y",
    ),
    (
        "name:",
        parameter("rnnserve.state.x.batch_axis", "1"),
        ": parameters: rnnserve.state.x.batch_axis: no such state; there is: c, h",
    ),
    (
        "name:",
        parameter("rnnserve.batch_axis.framez", "1"),
        ": parameters: rnnserve.batch_axis.framez: no such input or output; there is: frames, y"
        " (did you mean 'frames'?)",
    ),
    (
        "name:",
        parameter("rnnserve.batch_axis.frames", "3"),
        ": input 'frames': batch axis 3; expected at most 2",
    ),
    (
        "name:",
        parameter("rnnserve.batch_axis.frames", "2"),
        ": input 'frames': the model's batch axis is fixed at 3; expected one of any size for",
    ),
    (
        "name:",
        parameter("rnnserve.batch_axis.h_next", "1"),
        ": parameters: rnnserve.batch_axis.h_next: 1; the batch axis of the state that it is: 0",
    ),
    (
        "name:",
        parameter("rnnserve.state.h.batch_axis", "2"),
        ": state 'h': batch axis 2; expected at most 1",
    ),
    (
        "name:",
        parameter("rnnserve.state.h.batch_axis", "1"),
        ": state 'h': the model's batch axis is fixed at 4; expected one of any size for"
        " max_batch_size: 8, or max_batch_size: 0 with dims that count it",
    ),
    (
        'y" value { string_value: "1"',
        'y" value { string_value: "-1"',
        ": parameters: rnnserve.time_axis.y: '-1'; expected the number of an axis, 0 or more",
    ),
    (
        'y" value { string_value: "1"',
        'y" value { string_value: "3"',
        ": parameters: rnnserve.time_axis.y: 3; expected an axis from 1 to 2 of the shape [-1, -1,"
        " 4], of which axis 0 is the batch",
    ),
    (
        'y" value { string_value: "1"',
        'y" value { string_value: "0"',
        ": parameters: rnnserve.time_axis.y: 0; expected an axis from 1 to 2 of the shape [-1, -1,"
        " 4], of which axis 0 is the batch",
    ),
    (
        'string_value: "true"',
        'string_value: "yes"',
        ": parameters: rnnserve.may_be_cut: 'yes'; expected 'true' or 'false'",
    ),
    (
        "rnnserve.time_axis.frames",
        "somebody.else",
        ": parameters: rnnserve.may_be_cut: no input has a rnnserve.time_axis",
    ),
    (
        "dims: [ -1, 3 ]",
        "dims: [ 2, 3 ]",
        ": parameters: rnnserve.may_be_cut: input 'frames' has 2 timesteps; expected any number",
    ),
    (
        "name:",
        "version_policy { specific { versions: [ 4 ] } }\nname:",
        ": version_policy.specific: versions [4]; present: [1]",
    ),
    (
        "name:",
        'model_warmup { inputs { key: "frame" value { dims: [ 4, 3 ] } } }\nname:',
        ": model_warmup: no input 'frame'; there is: frames",
    ),
    (
        "name:",
        'model_warmup { inputs { key: "frames" value { dims: [ 4 ] } } }\nname:',
        ": model_warmup: input 'frames': dims [4]; expected sizes for [-1, 3]",
    ),
]


@pytest.mark.parametrize(("old", "new", "answer"), EDITS, ids=[edit[2][:60] for edit in EDITS])
def test_a_bad_configuration_says_what_is_wrong(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str, old: str, new: str, answer: str
) -> None:
    assert old in lstm_config
    config = lstm_config.replace(old, new, 1)
    path = make_model("lstm", config, lstm_model(), initial_state={"short": bytes(12)})
    text = refusal(path)
    assert text.startswith(str(path / "config.pbtxt") + ":")
    assert answer in text


def test_a_batch_axis_of_fixed_size(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    model = lstm_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    path = make_model("lstm", lstm_config, model)
    assert refusal(path).endswith(
        "input 'frames': the model's batch axis is fixed at 1; expected one of any size for"
        " max_batch_size: 8, or max_batch_size: 1 or a parameter rnnserve.constant.frames; or if"
        " axis 1 is the batch, a parameter rnnserve.batch_axis.frames: 1"
    )
    one = lstm_config.replace("max_batch_size: 8", "max_batch_size: 1")
    assert load(make_model("one/lstm", one, model))[0].max_batch_size == 1


def test_states_that_change_their_shape(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    config = lstm_config.replace("dims: [ 4 ]", "dims: [ -1 ]")
    model = lstm_model()
    model.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 5
    text = refusal(make_model("a/lstm", config, model))
    assert text.endswith("state 'h': the model reads [4] but writes [5]")


def test_types_and_shapes_that_cannot_be_derived(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    affine_model.graph.output[0].type.tensor_type.ClearField("shape")
    text = refusal(make_model("shape", "max_batch_size: 4", affine_model))
    assert text.endswith(
        "tensor 'y' of the model: shape unknown or without batch axis; expected its dims in output"
    )
    affine_model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    text = refusal(make_model("type", "max_batch_size: 4", affine_model))
    assert text.endswith(
        "tensor 'x' of the model: type STRING is not supported; the model has it for 'x'"
    )


def test_neither_configuration_nor_metadata(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    affine_model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    assert refusal(make_model("affine", None, affine_model)).endswith(
        "/affine/1/model.onnx, without config.pbtxt: tensor 'x' of the model: type STRING is not"
        " supported; the model has it for 'x'"
    )
    assert refusal(make_model("void", None)).endswith(
        "void: neither config.pbtxt nor a version directory"
    )


def test_bad_metadata_names_the_model_file(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    onnx.helper.set_model_props(affine_model, {"rnnserve.config": "max_batch_size: x"})
    text = refusal(make_model("affine", None, affine_model))
    assert "/1/model.onnx, metadata rnnserve.config:1: " in text


def test_files_that_cannot_be_read(make_model: MakeModel, lstm_model: LstmModel) -> None:
    path = make_model("lstm", "max_batch_size: 1")
    assert refusal(path).endswith("no version directory; expected 1/ with the model in it")
    (path / "1").mkdir()
    assert refusal(path).endswith("/1/model.onnx: cannot be read: No such file or directory")
    (path / "1" / "model.onnx").write_bytes(b"not a model")
    assert refusal(path).endswith("/1/model.onnx: not an ONNX model")
    (path / "1" / "model.onnx").write_bytes(b"")
    assert "/1/model.onnx: not an ONNX model" in refusal(path)
    onnx.save(
        lstm_model(),
        str(path / "1" / "model.onnx"),
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
    )
    (path / "1" / "weights").unlink()
    assert refusal(path).endswith("external data weights: No such file or directory")
    (path / "config.pbtxt").write_bytes(b"\xff\xfe")
    assert "config.pbtxt: cannot be read: 'utf-8' codec" in refusal(path)
