"""Cells of one's own: layers or not, with states of any shape, one within another."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import RNN, GRUCell, Layer, LSTMCell, Sequential, StackedRNNCells, deserialize

FEATURES, UNITS = 3, 4
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}


def random_inputs(time: int = 5) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, time, FEATURES, dtype=torch.float64)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


class Unregistered(Layer):
    """`h = x W + h`; no config can find its class but through `custom_objects`."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight("kernel", (input_shape[-1], self.units))
        self.built = True

    def call(self, inputs: Tensor, states: Any) -> Any:
        output = inputs @ self.kernel + states[0]
        return output, [output]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class Moments:
    """No layer. The state `(3, 4)` sums the outer products of x and x twice; the output is it."""

    state_size = [(3, 4)]  # noqa: RUF012
    output_size = (3, 4)

    def call(self, inputs: Tensor, states: Any) -> Any:
        twice = torch.cat([inputs, inputs.sum(-1, keepdim=True)], dim=-1)
        total = states[0] + inputs[:, :, None] * twice[:, None, :]
        return total, [total]


class Narrowing:
    """No layer, either: a matrix for a state, one number for an output."""

    state_size = ((3, 4), 2)
    output_size = 1

    def call(self, inputs: Tensor, states: Any) -> Any:
        new = [state + 1 for state in states]
        return new[0].sum(dim=(1, 2))[:, None], new


# States of any shape


def test_a_state_may_be_a_matrix() -> None:
    x = random_inputs()
    layer = RNN(Moments(), **ALL)
    outputs, state = layer(x)
    twice = torch.cat([x, x.sum(-1, keepdim=True)], dim=-1)

    close(outputs, (x[..., None] * twice[..., None, :]).cumsum(1))
    close(state, outputs[:, -1])
    assert layer.state_shapes == ((3, 4),)
    assert layer.compute_output_shape((2, 5, FEATURES)) == [(2, 5, 3, 4), (2, 3, 4)]


def test_a_matrix_may_be_masked_kept_and_given() -> None:
    x = random_inputs()
    layer = RNN(Moments(), stateful=True, **ALL)
    start = torch.ones(2, 3, 4, dtype=torch.float64)
    layer.build(x.shape)
    layer.reset_states(start.numpy())

    outputs, state = layer(x, mask=torch.tensor([[0, 1, 1, 0, 0]]).expand(2, 5).bool())

    assert (outputs[:, 0] == 0).all()  # a cell that is not built in gives zeros at first
    close(outputs[:, 2], RNN(Moments())(x[:, 1:3], initial_state=start))
    close(outputs[:, 4], outputs[:, 2])
    close(layer.states, [state])
    with pytest.raises(ValueError, match=r"expected shape=\(2, 3, 4\), found shape=\(2, 4, 3\)"):
        layer(x, initial_state=start.mT)


def test_output_and_state_may_differ_in_shape() -> None:
    layer = RNN([Moments(), Narrowing()], **ALL)
    outputs, *states = layer(random_inputs())

    assert outputs[0].flatten().tolist() == [12, 24, 36, 48, 60]
    shapes = [tuple(outputs.shape), *(tuple(state.shape) for state in states)]
    assert layer.compute_output_shape((2, 5, FEATURES)) == shapes
    assert shapes == [(2, 5, 1), (2, 3, 4), (2, 3, 4), (2, 2)]
    assert layer.cell.output_size == 1
    assert StackedRNNCells([Narrowing(), Moments()]).output_size == (3, 4)


def test_a_cell_after_a_matrix_is_built_for_a_matrix() -> None:
    class Flattening(Unregistered):
        def build(self, input_shape: Any) -> None:
            self.seen = input_shape
            super().build((input_shape[0], math.prod(input_shape[1:])))

        def call(self, inputs: Tensor, states: Any) -> Any:
            return super().call(inputs.flatten(1), states)

    layer = RNN([Moments(), Flattening(UNITS)])

    assert layer(random_inputs()).shape == (2, UNITS)
    assert layer.cell.cells[1].seen == (2, 3, 4)


# Modules within modules


class Residual(Layer):
    """A built-in cell inside: adds its input to its output."""

    def __init__(self, cell: LSTMCell, **options: Any) -> None:
        super().__init__(**options)
        self.inner = cell
        self.state_size, self.output_size = cell.state_size, cell.output_size

    def build(self, input_shape: Any) -> None:
        self.inner.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor, states: Any) -> Any:
        output, states = self.inner.call(inputs, states)
        return output + inputs, states


def test_a_cell_may_hold_another() -> None:
    x = random_inputs()
    layer = RNN(Residual(LSTMCell(FEATURES)), **ALL)
    outputs, *states = layer(x)

    expected, *same = RNN(layer.cell.inner, **ALL)(x)
    close(outputs, expected + x)
    close(states, same)
    assert [id(w) for w in layer.weights] == [id(w) for w in layer.cell.inner.weights]


class Torch(nn.Module):
    """A cell of torch alone: an nn.GRUCell with Keras' interface around it."""

    state_size = UNITS

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRUCell(FEATURES, UNITS, dtype=torch.float64)

    def call(self, inputs: Tensor, states: Any) -> Any:
        h = self.inner(inputs, states[0])
        return h, [h]


def test_a_cell_may_be_any_torch_module() -> None:
    x, layer = random_inputs(), RNN(Torch(), **ALL)
    outputs, h = layer(x)

    expected = torch.zeros(2, UNITS, dtype=torch.float64)
    for t in range(5):
        expected = layer.cell.inner(x[:, t], expected)
    close(h, expected)
    close(outputs[:, -1], expected)
    assert len(layer.trainable_weights) == 4
    layer.trainable = False
    assert not any(weight.requires_grad for weight in layer.parameters())


# Configs


@pytest.mark.parametrize(
    "make",
    [
        lambda: RNN(Unregistered(UNITS), return_sequences=True),
        lambda: RNN([GRUCell(2), Unregistered(UNITS)]),
        lambda: RNN(StackedRNNCells([StackedRNNCells([Unregistered(2)]), GRUCell(2)])),
        lambda: Sequential([RNN([Unregistered(UNITS)])]),
    ],
)
def test_custom_objects_reach_cells_however_deep(make) -> None:
    layer, x = make(), random_inputs()
    expected = layer(x)
    config = json.loads(json.dumps(layer.get_config()))
    outer = {"class_name": type(layer).__name__, "config": config}

    with pytest.raises(ValueError, match="Unknown layer: Unregistered"):
        deserialize(outer)
    twin = deserialize(outer, {"Unregistered": Unregistered})
    twin.build(tuple(x.shape))
    twin.double().set_weights(layer.get_weights())

    close(twin(x), expected)
