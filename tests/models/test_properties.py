"""What holds for every recurrent layer, whatever its inputs, options and weights."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import (
    GRU,
    LSTM,
    RNN,
    ConvLSTM2D,
    ConvLSTM2DCell,
    CuDNNGRU,
    CuDNNLSTM,
    GatedFeedbackRNN,
    GatedFeedbackRNNCell,
    GRUCell,
    Layer,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    deserialize,
    serialize,
)

FEATURES = 3
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}
SMALL = settings(max_examples=10, deadline=None)


class Slow(Layer):
    """A cell of one's own, with two states, that is not made of built-in ones."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.state_size = units, (units, 1)

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight("kernel", (input_shape[-1], self.units))
        self.built = True

    def call(self, inputs: Tensor, states: Any) -> Any:
        h, count = states
        h = 0.9 * h + torch.sin(inputs @ self.kernel) / (1 + count)
        return h, [h, count + 1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


STEP, IMAGE, FIRST = (FEATURES,), (4, 5, FEATURES), (FEATURES, 4, 5)
FAMILY: dict[str, tuple[Any, tuple[int, ...]]] = {
    "SimpleRNN": (lambda **o: SimpleRNN(4, **o), STEP),
    "SimpleRNN loop": (lambda **o: SimpleRNN(4, activation="softsign", **o), STEP),
    "GRU": (lambda **o: GRU(4, **o), STEP),
    "GRU implementation 2": (lambda **o: GRU(4, implementation=2, **o), STEP),
    "GRU reset_after": (lambda **o: GRU(4, reset_after=True, **o), STEP),
    "LSTM": (lambda **o: LSTM(4, **o), STEP),
    "LSTM fused": (lambda **o: LSTM(4, recurrent_activation="sigmoid", **o), STEP),
    "CuDNNGRU": (lambda **o: CuDNNGRU(4, **o), STEP),
    "CuDNNLSTM": (lambda **o: CuDNNLSTM(4, **o), STEP),
    "ConvLSTM2D": (lambda **o: ConvLSTM2D(2, (2, 3), **o), IMAGE),
    "ConvLSTM2D strided": (
        lambda **o: ConvLSTM2D(2, 3, 2, "same", data_format="channels_first", **o),
        FIRST,
    ),
    "feedback tanh": (lambda **o: GatedFeedbackRNN((2, 3), **o), STEP),
    "feedback lstm": (lambda **o: GatedFeedbackRNN((2, 3), "lstm", **o), STEP),
    "feedback gru": (lambda **o: GatedFeedbackRNN((2, 3), "gru", **o), STEP),
    "stack": (lambda **o: RNN([LSTMCell(2), SimpleRNNCell(3), GRUCell(2)], **o), STEP),
    "own cell": (lambda **o: RNN(Slow(4), **o), STEP),
    "mixed stack": (lambda **o: RNN([Slow(2), GatedFeedbackRNNCell((2, 3))], **o), STEP),
    "RNN of images": (lambda **o: RNN(ConvLSTM2DCell(2, 2), **o), IMAGE),
}
every_layer = pytest.mark.parametrize(("make", "step"), FAMILY.values(), ids=list(FAMILY))
every_maskable = pytest.mark.parametrize(
    ("make", "step"),
    [case for name, case in FAMILY.items() if not name.startswith("CuDNN")],
    ids=[name for name in FAMILY if not name.startswith("CuDNN")],
)
batches, times, seeds = st.integers(1, 3), st.integers(1, 5), st.integers(0, 99)


def inputs(seed: int, batch: int, time: int, step: tuple[int, ...]) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(batch, time, *step, dtype=torch.float64)


def made(make: Any, x: Tensor, **options: Any) -> tuple[RNN, list[Tensor]]:
    """A layer with random weights, and random states for it."""
    layer = make(**options)
    layer(x)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn_like(weight))
    return layer, [torch.randn_like(state) for state in layer.get_initial_state(x)]


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@every_layer
@given(batch=batches, time=times, seed=seeds)
@SMALL
def test_one_call_is_as_many_calls_as_timesteps(make, step, batch, time, seed) -> None:
    x = inputs(seed, batch, time, step)
    layer, states = made(make, x, **ALL)
    whole = layer(x, initial_state=states)

    outputs = []
    for t in range(time):
        output, *states = layer(x[:, t : t + 1], initial_state=states)
        outputs.append(output)
    close([torch.cat(outputs, dim=1), *states], whole)


@every_layer
@given(cut=st.integers(1, 4), seed=seeds)
@SMALL
def test_a_stateful_layer_carries_the_states_itself(make, step, cut, seed) -> None:
    x = inputs(seed, 2, 5, step)
    layer, states = made(make, x, stateful=True, **ALL)
    whole = layer(x, initial_state=states)

    layer.reset_states([state.numpy() for state in states])
    first, *_ = layer(x[:, :cut])
    second, *final = layer(x[:, cut:])

    close([torch.cat([first, second], dim=1), *final], whole)
    close(layer.states, final)


@every_layer
@given(batch=batches, time=times, seed=seeds)
@SMALL
def test_resetting_to_values_is_starting_from_them(make, step, batch, time, seed) -> None:
    x = inputs(seed, batch, time, step)
    layer, states = made(make, x, stateful=True, **ALL)
    expected = layer(x, initial_state=states)
    from_zero = layer(x, initial_state=[torch.zeros_like(state) for state in states])

    layer.reset_states(states)
    close(layer(x), expected)
    layer.reset_states()
    close(layer(x), from_zero)


@every_maskable
@given(before=st.integers(0, 2), after=st.integers(0, 2), time=times, seed=seeds)
@SMALL
def test_masked_padding_changes_nothing(make, step, before, after, time, seed) -> None:
    """Whatever stands in it, in front or behind."""
    x = inputs(seed, 2, time, step)
    layer, states = made(make, x, **ALL)
    expected = layer(x, initial_state=states)
    padding = [1e3 * torch.randn(2, n, *step, dtype=torch.float64) for n in (before, after)]
    mask = torch.tensor([0] * before + [1] * time + [0] * after).expand(2, -1)

    outputs, *final = layer(
        torch.cat([padding[0], x, padding[1]], dim=1), mask=mask, initial_state=states
    )

    close([outputs[:, before : before + time], *final], expected)
    last = outputs[:, before + time - 1 : before + time]
    close(outputs[:, before + time :], last.expand(-1, after, *last.shape[2:]))


@every_layer
@given(seed=seeds)
@SMALL
def test_rows_of_a_batch_know_nothing_of_each_other(make, step, seed) -> None:
    x = inputs(seed, 3, 4, step)
    layer, states = made(make, x, **ALL)
    turned = torch.randperm(3)
    whole = layer(x, initial_state=states)

    found = layer(x[turned], initial_state=[state[turned] for state in states])

    close(found, [part[turned] for part in whole])


@every_layer
@given(seed=seeds)
@SMALL
def test_backwards_is_forwards_over_flipped_inputs(make, step, seed) -> None:
    """The outputs stay in the order in which they were computed."""
    x = inputs(seed, 2, 4, step)
    layer, states = made(make, x, **ALL)
    expected = layer(x.flip(1), initial_state=states)

    layer.go_backwards = True

    close(layer(x, initial_state=states), expected)


@every_layer
@given(
    flags=st.fixed_dictionaries(
        {name: st.booleans() for name in ("return_sequences", "return_state", "go_backwards")}
    ),
    stateful=st.booleans(),
    activity=st.sampled_from([None, "l2"]),
    seed=seeds,
)
@SMALL
def test_a_config_makes_an_equal_layer(make, step, flags, stateful, activity, seed) -> None:
    x = inputs(seed, 2, 3, step)
    options = {**flags, "stateful": stateful, "activity_regularizer": activity}
    layer, _ = made(make, x, dtype="float64", trainable=False, **options)
    config = json.loads(json.dumps(serialize(layer)))

    twin = deserialize(config, {"Slow": Slow})
    twin.build(tuple(x.shape))
    twin.set_weights(layer.get_weights())
    if stateful:
        layer.reset_states()

    assert type(twin) is type(layer)
    assert json.loads(json.dumps(serialize(twin))) == config
    close(twin(x), layer(x))
    close(twin.losses, layer.losses)


@every_layer
@given(
    batch=batches,
    time=times,
    flags=st.fixed_dictionaries(
        {name: st.booleans() for name in ("return_sequences", "return_state")}
    ),
)
@SMALL
def test_shapes_are_known_before(make, step, batch, time, flags) -> None:
    layer, x = make(**flags), torch.zeros(batch, time, *step)
    layer.build((None, None, *step))
    shapes = layer.compute_output_shape(tuple(x.shape))
    unknown = layer.compute_output_shape((None, None, *step))

    returned = layer(x)

    if not flags["return_state"]:
        shapes, unknown, returned = [shapes], [unknown], [returned]
    assert [tuple(part.shape) for part in returned] == shapes
    for shape, without in zip(shapes, unknown, strict=True):
        kept = 2 if flags["return_sequences"] and shape is shapes[0] else 1
        assert (None,) * kept + shape[kept:] == without
