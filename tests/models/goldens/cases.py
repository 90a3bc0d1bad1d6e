"""What the golden files hold: one specification for each option that changes numbers.

The form of a specification is described in `oracle.py`. Sizes are tiny: what matters is that batch,
time, features and units are four different numbers.
"""

from __future__ import annotations

ACTIVATIONS = (
    *("softmax", "elu", "selu", "softplus", "softsign", "relu"),
    *("tanh", "sigmoid", "hard_sigmoid", "exponential", "linear"),
)
MASKS = ("right", "random", "first", "rows")
SHAPE, UNITS = [2, 4, 3], 2
IMAGES = [2, 3, 4, 5, 2]
L1L2 = {"class_name": "L1L2", "config": {"l1": 0.02, "l2": 0.03}}
ALL = {"return_sequences": True, "return_state": True}
STATES = {"initial_state": True}
STEPS = [{}, {"timesteps": 2}, {"reset": "values"}, STATES, {"reset": "zeros"}]


def specification(layer, name, config, calls=None, shape=None):
    """One case of `layer`, called once unless `calls` says otherwise."""
    return {
        "name": f"{layer}/{name}",
        "layer": {"class_name": layer, "config": config},
        "input_shape": shape or SHAPE,
        "calls": [{}] if calls is None else calls,
    }


def options():
    """What every layer with a plain cell takes: name, config, calls."""
    yield "defaults", {}, None
    yield "return_sequences", {"return_sequences": True}, None
    yield "return_state", {"return_state": True}, [STATES]
    yield "everything", ALL, [STATES]
    yield "list", ALL, [dict(STATES, flat=True)]
    yield "go_backwards", dict(ALL, go_backwards=True), None
    yield "stateful", dict(ALL, stateful=True), STEPS
    yield "activity", dict(ALL, activity_regularizer=L1L2), None
    yield "activity_alone", {"activity_regularizer": "l2"}, None


def loops():
    """What layers with a mask and an unrolled loop take besides."""
    for mask in MASKS:
        yield "mask_" + mask, ALL, [dict(STATES, mask=mask)]
        yield f"mask_{mask}_unrolled", dict(ALL, unroll=True), [dict(STATES, mask=mask)]
    yield "mask_last", {}, [{"mask": "right"}]
    yield "mask_backwards", dict(ALL, go_backwards=True), [dict(STATES, mask="random")]
    yield "mask_stateful", dict(ALL, stateful=True), [{"mask": "random"}, {"mask": "first"}]
    yield "unroll", dict(ALL, unroll=True), [STATES]


def weights(gated):
    """What concerns the weights and the functions of a cell."""
    for activation in ACTIVATIONS:
        yield "activation_" + activation, dict(ALL, activation=activation), [STATES]
        if gated:
            config = dict(ALL, recurrent_activation=activation)
            yield "recurrent_activation_" + activation, config, [STATES]
    yield "no_bias", dict(ALL, use_bias=False), [STATES]
    for which in ("kernel", "recurrent", "bias"):
        yield which + "_regularizer", {which + "_regularizer": L1L2}, None
    regularized = {which + "_regularizer": "l1_l2" for which in ("kernel", "recurrent", "bias")}
    yield "regularizers", dict(regularized, activity_regularizer="l1"), None


def dropouts(implementations):
    """Fixed masks of inputs, of h, and of both."""
    for implementation in implementations:
        for name, rates in (("x", (0.4, 0.0)), ("h", (0.0, 0.4)), ("both", (0.4, 0.4))):
            config = dict(ALL, dropout=rates[0], recurrent_dropout=rates[1])
            if implementation:
                config["implementation"] = implementation
            yield f"dropout_{name}_{implementation}", config, [STATES]


def simple_rnn():
    variants = [*options(), *loops(), *weights(gated=False), *dropouts([0])]
    for name, config, calls in variants:
        yield specification("SimpleRNN", name, dict(config, units=UNITS), calls)


def gru():
    variants = [*options(), *loops(), *weights(gated=True), *dropouts([1, 2])]
    for name, config, calls in variants:
        yield specification("GRU", name, dict(config, units=UNITS), calls)
    after = [*list(loops())[:2], *list(weights(gated=True))[-5:], *dropouts([1, 2])]
    for name, config, calls in after:
        config = dict(config, units=UNITS, reset_after=True)
        yield specification("GRU", name + "_after", config, calls)
    for after in (False, True):
        for implementation in (1, 2):
            for gate in ("sigmoid", "hard_sigmoid"):
                name = f"{'after' if after else 'before'}_{implementation}_{gate}"
                config = dict(ALL, units=UNITS, reset_after=after, implementation=implementation)
                config["recurrent_activation"] = gate
                yield specification("GRU", name, config, [STATES])


def lstm():
    variants = [*options(), *loops(), *weights(gated=True), *dropouts([1, 2])]
    for name, config, calls in variants:
        yield specification("LSTM", name, dict(config, units=UNITS), calls)
    for implementation in (1, 2):
        for gate in ("sigmoid", "hard_sigmoid"):
            config = dict(ALL, units=UNITS, implementation=implementation)
            config["recurrent_activation"] = gate
            yield specification("LSTM", f"{implementation}_{gate}", config, [STATES])


def cudnn():
    for layer in ("CuDNNGRU", "CuDNNLSTM"):
        for name, config, calls in options():
            yield specification(layer, name, dict(config, units=UNITS), calls)


def conv_lstm_2d():
    first = [2, 3, 2, 4, 5]
    geometry = [
        ("kernel_3", {"kernel_size": 3}),
        ("kernel_1_2", {"kernel_size": [1, 2]}),
        ("same", {"kernel_size": [2, 3], "padding": "same"}),
        ("strides", {"kernel_size": 2, "strides": 2}),
        ("strides_1_2", {"kernel_size": [2, 3], "strides": [1, 2]}),
        ("same_strides", {"kernel_size": [3, 2], "strides": [2, 3], "padding": "same"}),
        ("dilation", {"kernel_size": 2, "dilation_rate": 2}),
        ("same_dilation", {"kernel_size": [2, 3], "dilation_rate": [1, 2], "padding": "same"}),
    ]
    for name, config in geometry:
        config = dict(config, **ALL, filters=UNITS)
        yield specification("ConvLSTM2D", name, config, [STATES], IMAGES)
        config = dict(config, data_format="channels_first")
        yield specification("ConvLSTM2D", name + "_first", config, [STATES], first)
    for name, config, calls in [*options(), *weights(gated=True), *dropouts([0])]:
        config = dict(config, filters=1, kernel_size=[2, 3])
        yield specification("ConvLSTM2D", name, config, calls, [2, 2, 3, 4, 2])
    for activation in ("softmax", "tanh"):
        config = dict(ALL, filters=3, kernel_size=2, activation=activation)
        config["data_format"] = "channels_first"
        yield specification("ConvLSTM2D", "first_" + activation, config, [STATES], first)


def cell(class_name, **config):
    return {"class_name": class_name, "config": config}


def cells():
    """RNN over cells: built-in ones, one's own, and stacks."""
    lstm, gru = cell("LSTMCell", units=2), cell("GRUCell", units=4)
    plain, minimal = cell("SimpleRNNCell", units=3), cell("MinimalCell", units=2)
    carry = cell("CarryCell", units=2, carry=3, outputs=4)
    decay = cell("DecayCell", units=3, decay=0.5)
    conditioned = cell("ConditionedCell", units=2)
    single = {"lstm": lstm, "gru": gru, "simple": plain, "minimal": minimal}
    single.update(carry=carry, decay=decay)
    stacks = {
        "lstm_gru": [lstm, gru],
        "gru_lstm_simple": [gru, lstm, plain],
        "minimal_minimal": [minimal, cell("MinimalCell", units=4)],
        "decay_carry_lstm": [decay, carry, lstm],
        "one": [lstm],
    }
    for name, its_cells in stacks.items():
        single[name] = cell("StackedRNNCells", cells=its_cells)
        reverse = cell("StackedRNNCells", cells=its_cells, reverse_state_order=True)
        single[name + "_reverse"] = reverse
    for name, one in single.items():
        yield specification("RNN", name, dict(ALL, cell=one), [STATES])
        config = dict(ALL, cell=one, go_backwards=True)
        yield specification("RNN", name + "_backwards", config)
        config = dict(ALL, cell=one, stateful=True)
        yield specification("RNN", name + "_stateful", config, STEPS)
        for mask in ("random", "first"):
            call = dict(STATES, mask=mask)
            yield specification("RNN", f"{name}_mask_{mask}", dict(ALL, cell=one), [call])
    yield from with_constants(conditioned, lstm)
    dropping = [
        cell("GRUCell", units=3, dropout=0.4, recurrent_dropout=0.4, implementation=2),
        cell("LSTMCell", units=2, dropout=0.4, kernel_regularizer=L1L2),
        cell("SimpleRNNCell", units=4, recurrent_dropout=0.4, bias_regularizer="l2"),
    ]
    stack = cell("StackedRNNCells", cells=dropping)
    yield specification("RNN", "stack_with_dropout", dict(ALL, cell=stack), [STATES])
    yield specification("RNN", "frozen", dict(ALL, cell=lstm, trainable=False))
    frozen = cell("GRUCell", units=3, trainable=False)
    stack = cell("StackedRNNCells", cells=[frozen, lstm, frozen])
    yield specification("RNN", "partly_frozen", dict(ALL, cell=stack), [STATES])


def with_constants(conditioned, lstm):
    stack = cell("StackedRNNCells", cells=[conditioned, lstm, conditioned])
    nested = cell("StackedRNNCells", cells=[lstm, stack])
    variants = {"conditioned": conditioned, "conditioned_stack": stack, "nested": nested}
    for name, one in variants.items():
        for count, constants in enumerate(([4], [1, 2]), start=1):
            call = dict(STATES, constants=constants)
            config = dict(ALL, cell=one)
            yield specification("RNN", f"{name}_{count}", config, [call])
            yield specification("RNN", f"{name}_{count}_list", config, [dict(call, flat=True)])
        stateless = {"constants": [3], "flat": True}
        yield specification("RNN", name + "_stateless_list", config, [stateless])
        yield specification("RNN", name + "_mask", config, [dict(call, mask="random")])
        yield specification("RNN", name + "_unroll", dict(config, unroll=True), [call])


FILES = {
    "simple_rnn": simple_rnn,
    "gru": gru,
    "lstm": lstm,
    "cudnn": cudnn,
    "conv_lstm_2d": conv_lstm_2d,
    "cells": cells,
}


def initial():
    """Layers whose weights start without chance."""
    constant = {"class_name": "Constant", "config": {"value": 0.3}}
    identity = {"class_name": "Identity", "config": {"gain": 1.5}}
    fixed = {"kernel_initializer": constant, "recurrent_initializer": identity}
    for layer in ("SimpleRNN", "GRU", "LSTM", "CuDNNGRU", "CuDNNLSTM"):
        for bias in ("zeros", "ones", constant):
            name = bias if isinstance(bias, str) else "constant"
            config = dict(fixed, units=UNITS, bias_initializer=bias)
            yield specification(layer, "initial_" + name, config)
            if "LSTM" in layer:
                config = dict(config, unit_forget_bias=False)
                yield specification(layer, f"initial_{name}_no_forget", config)
    config = dict(fixed, units=UNITS, reset_after=True)
    yield specification("GRU", "initial_reset_after", config)
    for forget in (True, False):
        config = {"filters": 2, "kernel_size": [1, 2], "unit_forget_bias": forget}
        config.update(kernel_initializer="ones", recurrent_initializer=constant)
        config["bias_initializer"] = constant
        yield specification("ConvLSTM2D", f"initial_{forget}", config, shape=IMAGES)


RANDOM = [
    *("zeros", "ones", "uniform", "normal", "random_uniform", "random_normal"),
    *("truncated_normal", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal"),
    *("lecun_uniform", "lecun_normal", "orthogonal"),
    {"class_name": "RandomUniform", "config": {"minval": -0.1, "maxval": 0.3}},
    {"class_name": "RandomNormal", "config": {"mean": 0.2, "stddev": 0.1}},
    {"class_name": "TruncatedNormal", "config": {"mean": 0.2, "stddev": 0.1}},
    {"class_name": "Orthogonal", "config": {"gain": 0.5}},
    *(
        {
            "class_name": "VarianceScaling",
            "config": {"scale": 1.7, "mode": mode, "distribution": distribution},
        }
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("normal", "uniform")
    ),
]
"""Initialisers whose values come from chance (and the two that everybody uses)."""

SHAPES = ([60, 200], [200, 60], [3, 3, 10, 80])

CONSTRAINTS = [
    *("max_norm", "non_neg", "unit_norm", "min_max_norm", "maxnorm", "nonneg", "unitnorm"),
    {"class_name": "MaxNorm", "config": {"max_value": 0.7, "axis": 1}},
    {"class_name": "UnitNorm", "config": {"axis": [0, 1]}},
    {"class_name": "MinMaxNorm", "config": {"min_value": 0.9, "max_value": 1.2, "axis": 0}},
    {
        "class_name": "MinMaxNorm",
        "config": {"min_value": 0.5, "max_value": 0.9, "rate": 0.3, "axis": 1},
    },
]
