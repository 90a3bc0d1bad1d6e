"""The loop over time: sequences, states, masks, stateful layers. Semantics of Keras 2.2.4."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import (
    GRU,
    LSTM,
    RNN,
    GRUCell,
    Layer,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    deserialize,
    serialize,
)
from models import register as register_layer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

FEATURES, UNITS = 3, 4
SEQUENCES: dict[str, Any] = {"return_sequences": True, "return_state": True}

LAYERS: dict[str, Callable[..., RNN]] = {
    "SimpleRNN": lambda **options: SimpleRNN(UNITS, **options),
    "LSTM": lambda **options: LSTM(UNITS, **options),
    "LSTM sigmoid": lambda **options: LSTM(UNITS, recurrent_activation="sigmoid", **options),
    "GRU": lambda **options: GRU(UNITS, **options),
    "GRU reset_after": lambda **options: GRU(UNITS, reset_after=True, **options),
    "RNN of a cell": lambda **options: RNN(LSTMCell(UNITS), **options),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=list(LAYERS))


@register_layer
class MinimalCell(Layer):
    """A cell as users write them: weights in `build`, a plain `call`, nothing else."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        self.units = units
        self.state_size = units
        super().__init__(**kwargs)

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(shape=shape, initializer="uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, self.units), initializer="uniform", name="recurrent_kernel"
        )
        self.built = True

    def call(self, inputs: Tensor, states: Any) -> Any:
        output = inputs @ self.kernel + states[0] @ self.recurrent_kernel
        return output, [output]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class CountingCell:
    """Not a layer at all: its state counts the timesteps, its output is ten times that."""

    state_size = (1,)

    def call(self, inputs: Tensor, states: Any) -> Any:
        count = states[0] + 1
        return 10 * count, (count,)


def random_inputs(batch: int = 2, time: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(batch, time, FEATURES, generator=torch.Generator().manual_seed(seed))


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


# Outputs and states


def test_last_output_worked_out_by_hand() -> None:
    """h = x + 0.5 h: from 1, 1, 1: h = 1, then 1.5, then 1.75."""
    layer = SimpleRNN(1, activation="linear", return_sequences=True, return_state=True)
    layer.build((1, 3, 1))
    layer.set_weights([np.array([[1.0]]), np.array([[0.5]]), np.array([0.0])])

    outputs, state = layer(torch.ones(1, 3, 1))

    assert outputs.flatten().tolist() == [1.0, 1.5, 1.75]
    assert state.item() == 1.75


@every_layer
def test_return_sequences_and_return_state(make) -> None:
    x = random_inputs()
    layer = make(**SEQUENCES)
    outputs, *states = layer(x)
    last, *again = make_like(layer, return_state=True)(x)

    assert outputs.shape == (2, 5, UNITS)
    assert all(state.shape == (2, UNITS) for state in states)
    close(last, outputs[:, -1])
    close(last, states[0])  # of these cells the first state is the output
    close(again, states)
    close(make_like(layer, return_sequences=True)(x), outputs)
    close(make_like(layer)(x), last)


def make_like(layer: RNN, **options: Any) -> RNN:
    """A layer around the same cell with other options."""
    return RNN(layer.cell, **options)


@every_layer
@given(cut=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_one_call_equals_calls_with_carried_states(make, cut: int, seed: int) -> None:
    x = random_inputs(time=7, seed=seed)
    layer = make(**SEQUENCES)
    whole, *final = layer(x)

    first, *states = layer(x[:, :cut])
    second, *carried = layer(x[:, cut:], initial_state=states)
    steps, states = [], None
    for t in range(x.shape[1]):
        output, *states = layer(x[:, t : t + 1], initial_state=states)
        steps.append(output)

    close(torch.cat([first, second], dim=1), whole)
    close(carried, final)
    close(torch.cat(steps, dim=1), whole)
    close(states, final)


@every_layer
def test_one_timestep_equals_the_cell(make) -> None:
    x = random_inputs(time=1)
    layer = make(**SEQUENCES)
    output, *states = layer(x)

    expected, new_states = layer.cell(x[:, 0], layer.get_initial_state(x))

    close(output[:, 0], expected)
    close(tuple(states), tuple(new_states))


def test_states_may_come_in_a_list_with_the_inputs() -> None:
    x = random_inputs()
    layer = LSTM(UNITS)
    h, c = torch.randn(2, 2, UNITS)

    close(layer([x, h, c]), layer(x, initial_state=[h, c]))
    close(layer([x]), layer(x))


def test_go_backwards_keeps_processed_order() -> None:
    x = random_inputs()
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]], dtype=torch.bool)
    layer = GRU(UNITS, **SEQUENCES)

    backwards = make_like(layer, go_backwards=True, **SEQUENCES)

    close(backwards(x), layer(x.flip(1)))
    close(backwards(x, mask=mask), layer(x.flip(1), mask=mask.flip(1)))


# Masks


@every_layer
@given(bits=st.lists(st.booleans(), min_size=10, max_size=10), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_masked_steps_change_nothing(make, bits: list[bool], seed: int) -> None:
    """Against the definition: skip the step, repeat the output before it, h₀ at first."""
    x = random_inputs(seed=seed)
    mask = torch.tensor(bits).reshape(2, 5)
    layer = make(**SEQUENCES)
    initial = list(torch.randn(len(layer.state_shapes), 2, UNITS))

    outputs, *states = layer(x, mask=mask, initial_state=initial)

    for row in range(2):
        held = [state[row : row + 1] for state in initial]
        output = held[0]
        for t in range(5):
            if mask[row, t]:
                output, *held = layer(x[row : row + 1, t : t + 1], initial_state=held)
                output = output[:, 0]
            close(outputs[row : row + 1, t], output)
        close([state[row : row + 1] for state in states], held)


@every_layer
def test_right_padding_changes_nothing(make) -> None:
    x = random_inputs(time=4)
    layer = make(**SEQUENCES)
    outputs, *states = layer(x)
    padded = torch.cat([x, torch.full((2, 3, FEATURES), 1e3)], dim=1)
    mask = torch.arange(7)[None] < torch.tensor([[4], [4]])

    masked, *final = layer(padded, mask=mask)

    close(masked[:, :4], outputs)
    close(masked[:, 4:], outputs[:, -1:].expand(-1, 3, -1))
    close(final, states)


def test_masked_first_step_gives_h0_for_builtin_cells_and_zeros_for_others() -> None:
    x, h0 = random_inputs(time=2), torch.ones(2, UNITS)
    mask = torch.tensor([[False, True]]).expand(2, 2)

    builtin = SimpleRNN(UNITS, return_sequences=True)(x, mask=mask, initial_state=h0)
    other = RNN(MinimalCell(UNITS), return_sequences=True)(x, mask=mask, initial_state=h0)

    assert (builtin[:, 0] == 1).all()
    assert (other[:, 0] == 0).all()


def test_compute_mask() -> None:
    x, mask = random_inputs(), torch.ones(2, 5, dtype=torch.bool)

    assert LSTM(UNITS).compute_mask(x, mask) is None
    assert LSTM(UNITS, return_sequences=True).compute_mask(x, mask) is mask
    assert LSTM(UNITS, **SEQUENCES).compute_mask(x, mask) == [mask, None, None]


# Stateful layers


@every_layer
def test_stateful_equals_carrying_by_hand(make) -> None:
    stateful = make(stateful=True, **SEQUENCES)
    x, y = random_inputs(seed=1), random_inputs(seed=2)
    first = stateful(x)
    second = stateful(y)

    plain = make_like(stateful, **SEQUENCES)
    by_hand = plain(x)

    close(first, by_hand)
    close(second, plain(y, initial_state=by_hand[1:]))
    close(stateful.states, second[1:])


@every_layer
def test_reset_states(make) -> None:
    layer = make(stateful=True, return_state=True)
    x = random_inputs()
    fresh = layer(x)
    values = [np.full((2, UNITS), 0.5, dtype=np.float32) for _ in layer.state_shapes]

    layer.reset_states()
    close(layer(x), fresh)
    layer.reset_states(values)
    close(layer(x), make_like(layer, return_state=True)(x, initial_state=as_tensors(values)))
    layer.reset_states(tuple(values))
    close(layer.states, as_tensors(values))


def as_tensors(arrays: list[Any]) -> list[Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def test_reset_states_copies_what_it_is_given() -> None:
    layer = GRU(UNITS, stateful=True)
    layer.build((2, None, FEATURES))
    values = np.zeros((2, UNITS), dtype=np.float32)
    layer.reset_states(values)

    values[:] = 9

    assert layer.states[0].abs().max() == 0


def test_states_may_be_kept_in_inference_mode_and_trained_from() -> None:
    """Prediction moves the states on, training goes on from there; so does a lazy build."""
    layer = LSTM(UNITS, stateful=True)
    with torch.inference_mode():
        layer(torch.randn(2, 5, FEATURES))

    layer(torch.randn(2, 5, FEATURES)).sum().backward()

    assert all(weight.grad is not None for weight in layer.parameters())


def test_kept_states_are_nobody_elses_tensors() -> None:
    layer = LSTM(UNITS, stateful=True, return_state=True)
    _, h, c = layer(torch.randn(2, 5, FEATURES))
    expected = [h.clone(), c.clone()]

    with torch.no_grad():
        h.zero_()
        c.zero_()

    torch.testing.assert_close(layer.states, expected)


def test_initial_state_overrides_the_kept_one_and_is_written_back() -> None:
    layer = SimpleRNN(UNITS, stateful=True, return_state=True)
    x, h0 = random_inputs(), torch.ones(2, UNITS)
    layer(x)

    output, final = layer(x, initial_state=h0)

    close(output, make_like(layer)(x, initial_state=h0))
    close(layer.states, [final])


def test_no_gradient_crosses_batches() -> None:
    layer = LSTM(UNITS, stateful=True)
    x = random_inputs().requires_grad_()
    layer(x).sum().backward()
    x.grad = None

    layer(random_inputs(seed=1)).sum().backward()

    assert x.grad is None
    assert not any(state.requires_grad for state in layer.states)


def test_kept_states_are_no_weights_and_not_saved() -> None:
    layer = LSTM(UNITS, stateful=True)
    layer(random_inputs())

    assert len(layer.weights) == 3
    assert set(layer.state_dict()) == {"cell.kernel", "cell.recurrent_kernel", "cell.bias"}


# Cells of one's own


def test_cell_as_users_write_it() -> None:
    layer = RNN(MinimalCell(UNITS), **SEQUENCES)
    outputs, state = layer(random_inputs())

    assert outputs.shape == (2, 5, UNITS)
    close(state, outputs[:, -1])
    assert [tuple(weight.shape) for weight in layer.weights] == [(FEATURES, UNITS), (UNITS, UNITS)]


def test_cell_that_is_no_layer() -> None:
    outputs, state = RNN(CountingCell(), **SEQUENCES)(random_inputs(time=3))

    assert outputs[0].flatten().tolist() == [10, 20, 30]
    assert state.flatten().tolist() == [3, 3]


# Shapes, configs, gradients


@every_layer
@pytest.mark.parametrize("options", [{}, {"return_sequences": True}, {"return_state": True}])
def test_compute_output_shape(make, options) -> None:
    layer = make(**options)
    answer = layer(random_inputs())
    shapes = layer.compute_output_shape((2, 5, FEATURES))

    if layer.return_state:
        assert [tuple(part.shape) for part in answer] == shapes
    else:
        assert tuple(answer.shape) == shapes


@pytest.mark.parametrize(
    "layer",
    [
        SimpleRNN(UNITS, activation="relu", go_backwards=True),
        LSTM(UNITS, unit_forget_bias=False, stateful=True, name="memory"),
        GRU(UNITS, reset_after=True, recurrent_activation="sigmoid", return_state=True),
        RNN(GRUCell(UNITS, use_bias=False), return_sequences=True),
        RNN(MinimalCell(UNITS)),
    ],
)
def test_config_round_trip(layer: RNN) -> None:
    config = json.loads(json.dumps(serialize(layer)))
    twin = deserialize(config)
    x = random_inputs()
    expected = layer(x)
    twin.build(tuple(x.shape))
    twin.set_weights(layer.get_weights())

    assert type(twin) is type(layer)
    assert serialize(twin) == config
    close(twin(x), expected)


@every_layer
def test_gradients_reach_weights_and_inputs(make) -> None:
    x = random_inputs().requires_grad_()
    layer = make()

    layer(x).square().sum().backward()

    assert all(weight.grad.abs().sum() > 0 for weight in layer.weights)
    assert (x.grad.abs().sum(dim=(0, 2)) > 0).all()


def test_double_precision_gradients_match_finite_differences() -> None:
    layer = GRU(2, recurrent_activation="sigmoid", return_sequences=True)
    layer.build((1, 3, 2))
    layer.double()
    x = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, False, True]])

    assert torch.autograd.gradcheck(lambda inputs: layer(inputs, mask=mask), (x,))


# Errors


def test_wrong_number_of_initial_states() -> None:
    with pytest.raises(ValueError, match=r"Layer has 2 states but was passed 1 initial states\."):
        LSTM(UNITS)(random_inputs(), initial_state=[torch.zeros(2, UNITS)])


@pytest.mark.parametrize("shape", [(1, UNITS), (UNITS,), (2, 1), (3, UNITS)])
def test_initial_states_of_another_shape(shape: tuple[int, ...]) -> None:
    """Nothing is broadcast: one state for all rows of a batch would be a mistake, seldom a wish."""
    message = rf"initial state 0 .* expected shape=\(2, {UNITS}\), found shape="
    with pytest.raises(ValueError, match=message):
        GRU(UNITS)(torch.randn(2, 5, FEATURES), initial_state=torch.zeros(shape))


def test_reset_states_of_a_layer_that_is_not_stateful() -> None:
    with pytest.raises(AttributeError, match=r"Layer must be stateful\."):
        LSTM(UNITS).reset_states()


def test_reset_states_with_wrong_count_and_shape() -> None:
    layer = LSTM(UNITS, stateful=True)
    layer.build((2, None, FEATURES))

    with pytest.raises(ValueError, match="expects 2 states, but it received 1 state values"):
        layer.reset_states(np.zeros((2, UNITS)))
    with pytest.raises(ValueError, match=r"expected shape=\(2, 4\), found shape=\(3, 4\)"):
        layer.reset_states([np.zeros((2, UNITS)), np.zeros((3, UNITS))])


def test_stateful_needs_a_batch_size() -> None:
    with pytest.raises(ValueError, match="needs to know its batch size"):
        LSTM(UNITS, stateful=True).build((None, None, FEATURES))
    with pytest.raises(ValueError, match="needs to know its batch size"):
        LSTM(UNITS, stateful=True).reset_states()


def test_stateful_keeps_its_batch_size() -> None:
    layer = LSTM(UNITS, stateful=True)
    layer(random_inputs(batch=2))

    with pytest.raises(ValueError, match=r"expected shape=\(2, None, 3\), found shape=\(3, 5, 3\)"):
        layer(random_inputs(batch=3))


@pytest.mark.parametrize(
    ("inputs", "mask", "message"),
    [
        (torch.zeros(2, FEATURES), None, "layer lstm: expected ndim=3, found ndim=2"),
        (torch.zeros(2, 0, FEATURES), None, "at least one timestep"),
        (torch.zeros(2, 5, FEATURES), torch.ones(2, 4), r"mask has shape \(2, 4\)"),
    ],
)
def test_inputs_that_do_not_fit(inputs, mask, message) -> None:
    layer = LSTM(UNITS)

    with pytest.raises(ValueError, match=message):
        layer(inputs, mask=mask)
    assert not layer.built


def test_cell_must_have_call_and_state_size() -> None:
    with pytest.raises(ValueError, match="should have a `call` method"):
        RNN(object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="should have an attribute `state_size`"):
        RNN(type("Cell", (), {"call": None})())


def test_unknown_cell_class_in_a_config() -> None:
    config = RNN(SimpleRNNCell(UNITS)).get_config()
    config["cell"]["class_name"] = "NoSuchCell"

    with pytest.raises(ValueError, match=r"Unknown layer: NoSuchCell.*models\.register"):
        RNN.from_config(config)
