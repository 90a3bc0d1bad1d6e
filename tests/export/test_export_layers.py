"""Every layer and option: torch = ONNX Runtime, and the form that the rules promise."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch

import models
from export.program import program
from export.verify import verify
from inspection.placement import placement_of

if TYPE_CHECKING:
    import onnx

    from export.proof import Proof

GATES = ("hard_sigmoid", "sigmoid")


def prove(model: models.Layer, **options: Any) -> tuple[onnx.ModelProto, Proof]:
    """The graph, checked in full, and its table of errors."""
    made = program(model, **options)
    return made.model, verify(made.plan, made.model.SerializeToString())


def op_types(graph: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in graph.graph.node]


def check(model: models.Sequential, *expected_ops: str) -> None:
    graph, proof = prove(model)
    assert not proof.failures
    assert placement_of(graph).fallbacks == ()
    recurrent = [op for op in op_types(graph) if op in ("LSTM", "GRU", "RNN", "Scan")]
    assert recurrent == list(expected_ops)


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_simple_rnn(build: Any, activation: str, use_bias: bool) -> None:
    layer = models.SimpleRNN(3, activation, use_bias, return_sequences=True)
    check(build(layer), "RNN" if activation == "tanh" else "Scan")


@pytest.mark.parametrize(
    ("recurrent_activation", "activation", "use_bias"),
    list(itertools.product(GATES, ("tanh", "softsign"), (True, False))),
)
def test_lstm(build: Any, recurrent_activation: str, activation: str, use_bias: bool) -> None:
    layer = models.LSTM(3, activation, recurrent_activation, use_bias, return_sequences=True)
    fused = (recurrent_activation, activation) == ("sigmoid", "tanh")
    check(build(layer), "LSTM" if fused else "Scan")


@pytest.mark.parametrize(
    ("recurrent_activation", "activation", "use_bias", "reset_after"),
    list(itertools.product(GATES, ("tanh", "relu"), (True, False), (True, False))),
)
def test_gru(
    build: Any, recurrent_activation: str, activation: str, use_bias: bool, reset_after: bool
) -> None:
    layer = models.GRU(
        3,
        activation,
        recurrent_activation,
        use_bias,
        reset_after=reset_after,
        return_sequences=True,
    )
    fused = reset_after and (recurrent_activation, activation) == ("sigmoid", "tanh")
    check(build(layer), "GRU" if fused else "Scan")


@pytest.mark.parametrize("layer", [models.LSTM, models.GRU])
@pytest.mark.parametrize("activation", sorted(models.activations.NAMED.keys() - {"exponential"}))
def test_gates_have_every_activation(build: Any, layer: Any, activation: str) -> None:
    """All that stay finite: with exponential gates the states grow without bound."""
    model = build(layer(3, "softsign", activation, return_sequences=True))
    with torch.no_grad():  # small enough that gates above one do not either
        for weight in model.parameters():
            weight.mul_(0.5)
    check(model, "Scan")


@pytest.mark.parametrize(
    ("layer_class", "options", "op_type"),
    [
        (models.LSTM, {}, "Scan"),
        (models.LSTM, {"recurrent_activation": "sigmoid"}, "LSTM"),
        (models.GRU, {}, "Scan"),
        (models.GRU, {"reset_after": True}, "Scan"),
        (models.GRU, {"reset_after": True, "recurrent_activation": "sigmoid"}, "GRU"),
        (models.SimpleRNN, {}, "RNN"),
        (models.SimpleRNN, {"activation": "relu"}, "Scan"),
    ],
)
def test_two_layers_of_a_class(
    build: Any, layer_class: Any, options: dict[str, Any], op_type: str
) -> None:
    layers = [layer_class(units, return_sequences=True, **options) for units in (6, 2)]
    check(build(*layers), op_type, op_type)


@pytest.mark.parametrize("cell_class", [models.SimpleRNNCell, models.GRUCell, models.LSTMCell])
def test_rnn_around_a_cell(build: Any, cell_class: Any) -> None:
    layer = models.RNN(cell_class(4), return_sequences=True)
    check(build(layer), "RNN" if cell_class is models.SimpleRNNCell else "Scan")


@pytest.mark.parametrize("activation", sorted(models.activations.NAMED))
def test_dense_has_every_activation(build: Any, activation: str) -> None:
    check(build(models.Dense(4, activation), models.Dense(2, use_bias=False)))


def test_normalization(build: Any) -> None:
    layer = models.Normalization()
    model = build(layer, models.GRU(4, return_sequences=True), models.Dense(3, "softmax"))
    layer.adapt(3 + 5 * torch.randn(50, 5, generator=torch.Generator().manual_seed(0)))
    check(model, "Scan")


@pytest.mark.parametrize(
    "layer",
    [
        models.LSTM(3, recurrent_activation="sigmoid", return_sequences=True),
        models.GRU(3, recurrent_activation="sigmoid", reset_after=True, return_sequences=True),
        models.SimpleRNN(3, return_sequences=True),
    ],
)
def test_native_ops_carry_nothing_that_cudnn_refuses(build: Any, layer: models.Layer) -> None:
    graph, _ = prove(build(layer))
    (node,) = [n for n in graph.graph.node if n.op_type in ("LSTM", "GRU", "RNN")]
    attributes = {a.name for a in node.attribute}
    assert attributes <= {"hidden_size", "linear_before_reset"}
    weights = {tensor.name for tensor in graph.graph.initializer}
    assert set(node.input[1:4]) <= weights


def test_names_and_dynamic_axes(small: models.Sequential) -> None:
    graph, _ = prove(small)

    def shapes(values: Any) -> dict[str, list[Any]]:
        return {
            v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in values
        }

    assert shapes(graph.graph.input) == {
        "frames": ["batch", "time", 5],
        "lstm_h": ["batch", 4],
        "lstm_c": ["batch", 4],
    }
    assert shapes(graph.graph.output) == {
        "probabilities": ["batch", "time", 3],
        "lstm_h_next": ["batch", 4],
        "lstm_c_next": ["batch", 4],
    }
    assert all(node.name for node in graph.graph.node)
    assert (graph.ir_version, graph.opset_import[0].version) == (8, 18)


def test_the_same_model_gives_the_same_bytes(small: models.Sequential) -> None:
    first, second = (prove(small)[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
