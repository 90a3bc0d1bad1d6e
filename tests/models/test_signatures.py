"""The arguments of every layer and cell, in Keras' order and with its defaults.

Whoever knows them may pass them by position: what this package adds comes after them.
"""

from __future__ import annotations

import inspect

import pytest

import models

INITIALIZERS = (
    "kernel_initializer='glorot_uniform', recurrent_initializer='orthogonal', "
    "bias_initializer='zeros', "
)
REGULARIZERS = "kernel_regularizer=None, recurrent_regularizer=None, bias_regularizer=None, "
ACTIVITY = "activity_regularizer=None, "
CONSTRAINTS = "kernel_constraint=None, recurrent_constraint=None, bias_constraint=None, "
DROPOUT = "dropout=0.0, recurrent_dropout=0.0"
FORGET = "unit_forget_bias=True, "
PLAIN = f"units, activation='tanh', use_bias=True, {INITIALIZERS}"
GATED = (
    "units, activation='tanh', recurrent_activation='hard_sigmoid', use_bias=True, " + INITIALIZERS
)
RETURNS = (
    "return_sequences=False, return_state=False, go_backwards=False, stateful=False, unroll=False"
)
CUDNN = "return_sequences=False, return_state=False, stateful=False"
IMPLEMENTATION = ", implementation=1"
CONV = (
    "filters, kernel_size, strides=(1, 1), padding='valid', data_format=None, "
    + "dilation_rate=(1, 1), "
    + GATED.removeprefix("units, ")
    + FORGET
)

SIGNATURES = {
    "RNN": f"cell, {RETURNS}",
    "SimpleRNN": PLAIN + REGULARIZERS + ACTIVITY + CONSTRAINTS + DROPOUT + f", {RETURNS}",
    "GRU": GATED
    + REGULARIZERS
    + ACTIVITY
    + CONSTRAINTS
    + DROPOUT
    + IMPLEMENTATION
    + f", {RETURNS}, reset_after=False",
    "LSTM": GATED
    + FORGET
    + REGULARIZERS
    + ACTIVITY
    + CONSTRAINTS
    + DROPOUT
    + IMPLEMENTATION
    + f", {RETURNS}",
    "ConvLSTM2D": CONV
    + REGULARIZERS
    + ACTIVITY
    + CONSTRAINTS
    + f"return_sequences=False, go_backwards=False, stateful=False, {DROPOUT}",
    "SimpleRNNCell": PLAIN + REGULARIZERS + CONSTRAINTS + DROPOUT,
    "GRUCell": GATED + REGULARIZERS + CONSTRAINTS + DROPOUT + IMPLEMENTATION,
    "LSTMCell": GATED + FORGET + REGULARIZERS + CONSTRAINTS + DROPOUT + IMPLEMENTATION,
    "ConvLSTM2DCell": CONV + REGULARIZERS + CONSTRAINTS + DROPOUT,
    "StackedRNNCells": "cells",
    "CuDNNGRU": f"units, {INITIALIZERS}{REGULARIZERS}{ACTIVITY}{CONSTRAINTS}{CUDNN}",
    "CuDNNLSTM": f"units, {INITIALIZERS}{FORGET}{REGULARIZERS}{ACTIVITY}{CONSTRAINTS}{CUDNN}",
}


def signature(cls: type) -> str:
    """The arguments with their defaults, without `self`, types and further keywords."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    named = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in named)


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_order_and_defaults(name: str) -> None:
    found = signature(getattr(models, name))

    assert f"{found}, ".startswith(f"{SIGNATURES[name]}, ")


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_family_is_exported(name: str) -> None:
    assert name in models.__all__


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, None),
        ({"input_dim": 3}, (None, None, 3)),
        ({"input_dim": 3, "input_length": 5}, (None, 5, 3)),
        ({"input_shape": (5, 3)}, (None, 5, 3)),
        ({"input_shape": (None, 3), "batch_size": 2}, (2, None, 3)),
        ({"batch_input_shape": [2, 5, 3]}, (2, 5, 3)),
    ],
)
def test_the_shape_of_the_inputs(options, shape) -> None:
    layer = models.LSTM(4, **options)

    assert layer.batch_input_shape == shape
    assert models.LSTM.from_config(layer.get_config()).batch_input_shape == shape


@pytest.mark.parametrize("make", [models.LSTM, models.GRUCell, models.Dense, models.Masking])
def test_unknown_keywords(make) -> None:
    with pytest.raises(TypeError) as caught:
        make(4, colour="red")

    assert caught.value.args == ("Keyword argument not understood:", "colour")


@pytest.mark.parametrize("make", [models.LSTM, models.GRU, models.LSTMCell, models.GRUCell])
def test_implementation(make) -> None:
    with pytest.warns(UserWarning, match="`implementation=0` has been deprecated"):
        old = make(4, implementation=0)
    with pytest.raises(ValueError, match="`implementation` is 1 or 2, not 3"):
        make(4, implementation=3)

    assert old.implementation == 1
    assert make(4, implementation=2).implementation == 2


def test_simple_rnn_has_no_implementation_any_more() -> None:
    with pytest.warns(UserWarning, match="`implementation` argument in `SimpleRNN`"):
        layer = models.SimpleRNN(4, implementation=1)

    assert "implementation" not in layer.get_config()
