from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from server.engine.engine import Engine
from server.engine.graph import with_arena
from server.errors import StartupError
from server.repository.load import load

if TYPE_CHECKING:
    from tests.server.conftest import LstmModel, MakeModel


def test_the_graph_after_surgery(
    make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str
) -> None:
    [spec] = load(make_model("mixed", mixed_config, mixed_model))
    own = [node.SerializeToString() for node in mixed_model.graph.node]
    graph = with_arena(mixed_model, spec)
    onnx.checker.check_model(graph.model, full_check=True)
    assert (graph.read_rows, graph.write_rows) == ("rnnserve.read_rows", "rnnserve.write_rows")
    assert graph.pools["odd"] == ("rnnserve.odd.pool", "rnnserve.odd.pool_next")
    pools = [name for pair in graph.pools.values() for name in pair]
    assert [value.name for value in graph.model.graph.input] == [
        "x",
        "place",
        *pools[::2],
        "rnnserve.read_rows",
        "rnnserve.write_rows",
    ]
    assert [value.name for value in graph.model.graph.output] == ["y", "count_next", *pools[1::2]]
    nodes = graph.model.graph.node
    assert [node.op_type for node in nodes][:3] == ["Gather"] * 3
    assert [node.SerializeToString() for node in nodes][3:-3] == own
    assert [node.op_type for node in nodes][-3:] == ["ScatterND"] * 3


def test_a_model_without_states_keeps_its_graph(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    [spec] = load(make_model("affine", "max_batch_size: 4", affine_model))
    before = affine_model.SerializeToString()
    graph = with_arena(affine_model, spec)
    assert graph.model.SerializeToString() == before
    assert graph.pools == {}


def test_what_is_not_fed_is_no_input_any_more(
    make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str
) -> None:
    """As an input a weight might be fed, so that ONNX Runtime could fold nothing."""
    table = onnx.helper.make_tensor_value_info("table", onnx.TensorProto.FLOAT, [2, 2])
    mixed_model.graph.input.append(table)
    mixed_model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((1, 1)), "odd"))
    mixed_model.ir_version = 3
    [spec] = load(make_model("mixed", mixed_config, mixed_model))
    graph = with_arena(mixed_model, spec).model
    onnx.checker.check_model(graph, full_check=True)
    names = {value.name for value in graph.graph.input}
    assert {"x", "place"} == {name for name in names if not name.startswith("rnnserve.")}
    assert {"table", "one"} == {tensor.name for tensor in graph.graph.initializer}


def test_names_do_not_collide_with_the_models_own(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    model = lstm_model(prefix="rnnserve.")
    path = make_model("lstm", lstm_config, model)
    [spec] = load(path)
    assert with_arena(model, spec).read_rows == "rnnserve._.read_rows"
    Engine(spec, provider="cpu", rows=9)


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 14, 18])
def test_opsets_give_the_same(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str, opset: int
) -> None:
    frames = np.ones((2, 3, 3), np.float32)
    read, write = np.array([0, 0]), np.array([2, 1])
    answers = []
    for version in (opset, 18):
        path = make_model(f"{len(answers)}/lstm", lstm_config, lstm_model(opset=version))
        engine = Engine(load(path)[0], provider="cpu", rows=9)
        answers.append((engine.run({"frames": frames}, read, write)["y"], engine.read(write)["c"]))
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    np.testing.assert_array_equal(answers[0][1], answers[1][1])


def test_an_old_opset_that_cannot_be_converted_is_refused(
    make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str
) -> None:
    """BatchNormalization has lost its attribute `spatial`."""
    node = onnx.helper.make_node("BatchNormalization", [*"xxxxx"], ["unused"], spatial=0)
    text = conversion_error(make_model, mixed_model, mixed_config, node)
    assert "spatial" in text


def test_an_old_graph_that_does_not_hold_together_is_refused(
    make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str
) -> None:
    node = onnx.helper.make_node("Neg", ["nothing"], ["unused"])
    text = conversion_error(make_model, mixed_model, mixed_config, node)
    assert "(Input nothing is undefined!)" in text


def conversion_error(
    make_model: MakeModel, model: onnx.ModelProto, config: str, node: onnx.NodeProto
) -> str:
    """Of the model as one of opset 8 with one more node."""
    model.opset_import[0].version = 8
    model.graph.node.append(node)
    path = make_model("mixed", config, model)
    with pytest.raises(StartupError) as caught:
        Engine(load(path)[0], provider="cpu", rows=9)
    text = str(caught.value)
    assert text.startswith(f"{path}/1/model.onnx: opset 8; expected 11 or newer, and onnx cannot")
    assert text.endswith("export the model anew with a newer opset")
    return text
