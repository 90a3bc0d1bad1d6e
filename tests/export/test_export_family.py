"""The whole family with every option that changes what is computed: torch = ONNX Runtime.

Each case is proven whole, step by step, in random chunks and among strangers, with and without a
mask, from zero and random states, for every form that there is.
"""

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
    from collections.abc import Callable

    from torch import nn

    from export.program import Program

FEATURES = 5
FORMS = {
    "cuda": {"target": "cuda"},
    "cpu": {"target": "cpu"},
    "masked": {"mask": True},
    "one step": {"one_step": True},
    "one step, masked": {"one_step": True, "mask": True},
}
LAYERS: dict[str, Callable[..., models.RNN]] = {
    "SimpleRNN": lambda **o: models.SimpleRNN(3, **o),
    "SimpleRNN relu, no bias": lambda **o: models.SimpleRNN(3, "relu", False, **o),
    "LSTM": lambda **o: models.LSTM(4, **o),
    "LSTM sigmoid": lambda **o: models.LSTM(4, recurrent_activation="sigmoid", **o),
    "LSTM softmax, no bias": lambda **o: models.LSTM(4, "softsign", "softmax", False, **o),
    "LSTM of Keras 3": lambda **o: models.LSTM(4, recurrent_activation="hard_sigmoid_keras3", **o),
    "GRU": lambda **o: models.GRU(4, **o),
    "GRU reset after": lambda **o: models.GRU(4, reset_after=True, **o),
    "GRU sigmoid, reset after": lambda **o: models.GRU(
        4, recurrent_activation="sigmoid", reset_after=True, **o
    ),
    "GRU relu, no bias": lambda **o: models.GRU(4, "relu", use_bias=False, **o),
    "CuDNNLSTM": lambda **o: models.CuDNNLSTM(3, **o),
    "CuDNNGRU": lambda **o: models.CuDNNGRU(3, **o),
    "stack": lambda **o: models.RNN([models.LSTMCell(3), models.GRUCell(2)], **o),
    "reversed stack": lambda **o: models.RNN(reversed_stack(), **o),
    "gated feedback tanh": lambda **o: models.GatedFeedbackRNN((3, 2, 4), "tanh", **o),
    "gated feedback lstm": lambda **o: models.GatedFeedbackRNN((3, 2), "lstm", **o),
    "gated feedback gru": lambda **o: models.GatedFeedbackRNN((2, 3), "gru", **o),
}
OPTIONS: list[dict[str, Any]] = [
    {"return_sequences": sequences, "go_backwards": backwards}
    for sequences, backwards in itertools.product((True, False), (False, True))
]
CONVOLUTIONS: list[dict[str, Any]] = [
    {},
    {"padding": "same", "strides": 2},
    {"padding": "same", "strides": (1, 3), "kernel_size": (2, 3)},
    {"dilation_rate": 2},
    {"data_format": "channels_first", "padding": "same", "kernel_size": 2},
    {"data_format": "channels_first", "recurrent_activation": "softmax"},
    {"recurrent_activation": "softmax", "use_bias": False},
    {"go_backwards": True},
    {"return_sequences": False},
]


def reversed_stack() -> models.StackedRNNCells:
    cells = [models.LSTMCell(3), models.GRUCell(2)]
    with pytest.warns(UserWarning, match="reverse_state_order"):
        return models.StackedRNNCells(cells, reverse_state_order=True)


def filled(model: nn.Module) -> nn.Module:
    """Weights large enough that every gate matters, biases included."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4, generator=generator)
    return model


def prove(model: nn.Module, **options: Any) -> Program:
    made = program(filled(model), **options)
    proof = verify(made.plan, made.model.SerializeToString())
    assert not proof.failures
    assert proof.rows
    return made


def causal(name: str, options: dict[str, Any], form: str) -> bool:
    """Whether a request may be cut: not where a masked first step forgets, as in stacks."""
    return not options["go_backwards"] and not ("stack" in name and "masked" in form)


def exists(name: str, options: dict[str, Any], form: str) -> bool:
    """Keras' CuDNN layers take no masks; a request that runs whole is not one of single steps."""
    if name.startswith("CuDNN") and "masked" in form:
        return False
    return "one step" not in form or causal(name, options, form)


CASES = [case for case in itertools.product(LAYERS, OPTIONS, FORMS) if exists(*case)]


@pytest.mark.parametrize(("name", "options", "form"), CASES, ids=str)
def test_every_layer(name: str, options: dict[str, Any], form: str) -> None:
    layer = LAYERS[name](**options)
    layer.build((None, None, FEATURES))
    made = prove(layer, **FORMS[form])
    assert made.signature.may_be_cut == causal(name, options, form)
    if form != "cpu":
        assert placement_of(made.model).fallbacks == ()


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolutions(options: dict[str, Any], masked: bool) -> None:
    given = {"kernel_size": 3, "return_sequences": True, **options}
    layer = models.ConvLSTM2D(2, **given)
    first = given.get("data_format") == "channels_first"
    layer.build((None, None, 3, 6, 7) if first else (None, None, 6, 7, 3))
    made = prove(layer, mask=masked)
    assert placement_of(made.model).fallbacks == ()


@pytest.mark.parametrize("options", [{"stateful": True}, {"unroll": True}], ids=str)
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("layer_class", [models.LSTM, models.GRU, models.SimpleRNN])
def test_stateful_and_unrolled(layer_class: Any, options: Any, masked: bool) -> None:
    """Both say how Keras runs a layer; what differs is an unrolled layer's masked first step."""
    layer = layer_class(3, return_sequences=True, **options)
    layer.build((2, None, FEATURES))
    made = prove(layer, mask=masked)
    assert made.signature.may_be_cut == (not (masked and "unroll" in options))


@pytest.mark.parametrize("name", ["LSTM", "GRU sigmoid, reset after", "stack"])
def test_states_as_outputs(name: str) -> None:
    layer = LAYERS[name](return_state=True)
    layer.build((None, None, FEATURES))
    made = prove(layer)
    states = [f"output_{state}" for state in layer.state_names]
    assert [tensor.name for tensor in made.signature.outputs] == ["output", *states]


@pytest.mark.parametrize("implementation", [1, 2])
def test_implementations_are_one_without_dropout(implementation: int) -> None:
    layer = models.LSTM(
        3, implementation=implementation, dropout=0.5, recurrent_dropout=0.5, return_sequences=True
    )
    layer.build((None, None, FEATURES))
    prove(layer)


def test_names_of_nested_states() -> None:
    model = models.Sequential(
        [
            models.RNN([models.LSTMCell(3), models.GRUCell(2)], return_sequences=True, name="a"),
            models.GatedFeedbackRNN((2, 3), "lstm", return_sequences=True),
        ]
    )
    model.build((None, None, FEATURES))
    made = prove(model)
    assert [state.name for state in made.signature.states] == [
        *("a_cell_0_h", "a_cell_0_c", "a_cell_1_h"),
        *(f"gated_feedback_rnn_{state}" for state in ("h1", "c1", "h2", "c2")),
    ]


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [models.Embedding(11, 4, mask_zero=True), models.LSTM(3, return_sequences=True)],
        lambda: [models.Embedding(11, 4), models.GRU(3), models.Dense(2, "softmax")],
    ],
    ids=["padding", "last output"],
)
def test_symbols(layers: Any) -> None:
    model = models.Sequential(layers())
    model.build((None, None))
    made = prove(model)
    (symbols,) = made.signature.inputs
    assert (symbols.dtype, made.plan.draws["frames"].symbols) == ("int64", 11)


def test_masking_makes_the_mask() -> None:
    """In the graph itself, from frames that are all the mask value."""
    layers = [models.Masking(0.0), models.LSTM(3, return_sequences=True), models.GRU(2)]
    model = models.Sequential(layers)
    model.build((None, None, FEATURES))
    made = program(filled(model))
    frames = torch.randn(9, FEATURES, generator=torch.Generator().manual_seed(0)).numpy()
    frames[[0, 3, 4, 8]] = 0
    proof = verify(made.plan, made.model.SerializeToString(), made.signature, [frames])
    assert not proof.failures
    assert {row.comparison for row in proof.rows} >= {"steps, real data", "chunks, real data"}
