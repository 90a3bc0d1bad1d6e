"""Constants: tensors that a cell is handed at every timestep, by keyword or in the flat list."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models import RNN, GRUCell, Layer

FEATURES, UNITS = 3, 4
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}


def random_inputs() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 5, FEATURES, dtype=torch.float64)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


class Conditioned(Layer):
    """`h = x W + h + a - 2 b` with constants a and b; remembers the shapes it was built for."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.shapes = input_shape
        self.kernel = self.add_weight("kernel", (input_shape[0][-1], self.units))
        self.built = True

    def call(self, inputs: Tensor, states: Any, constants: Any = None) -> Any:
        a, b = constants
        output = inputs @ self.kernel + states[0] + a - 2 * b
        return output, [output]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def test_constants_by_keyword_and_in_the_list() -> None:
    x, h = random_inputs(), torch.ones(2, UNITS, dtype=torch.float64)
    a, b = torch.full_like(h, 0.5), torch.full_like(h, 0.1)
    layer = RNN(Conditioned(UNITS), **ALL)

    found = layer(x, constants=[a, b])

    steps = (x @ layer.cell.kernel).cumsum(1)
    times = torch.arange(1, 6, dtype=torch.float64)[:, None]
    close(found, [steps + 0.3 * times, steps[:, -1] + 1.5])
    close(layer([x, a, b]), found)
    close(layer([x, h, a, b]), layer(x, initial_state=h, constants=[a, b]))
    close(layer([x, h, a, b])[0], found[0] + 1)


def test_a_new_layer_takes_what_follows_the_states_for_constants() -> None:
    x, h = random_inputs(), torch.ones(2, UNITS, dtype=torch.float64)
    layer = RNN(Conditioned(UNITS))

    close(layer([x, h, h, h]), layer(x, initial_state=h, constants=[h, h]))


def test_the_cell_is_built_for_the_shapes_of_inputs_and_constants() -> None:
    layer = RNN(Conditioned(UNITS))
    layer(random_inputs(), constants=[torch.zeros(2, 1), torch.zeros(2, UNITS)])

    assert layer.cell.shapes == [(2, FEATURES), (2, 1), (2, UNITS)]


def test_the_number_of_constants_is_part_of_the_config() -> None:
    x, h = random_inputs(), torch.ones(2, UNITS, dtype=torch.float64)
    layer = RNN(Conditioned(UNITS))
    expected = layer(x, constants=[h, h])
    twin = RNN.from_config(layer.get_config(), {"Conditioned": Conditioned})
    twin.build([x.shape, h.shape, h.shape])
    twin.double().set_weights(layer.get_weights())

    close(twin([x, h, h]), expected)


def test_constants_that_do_not_fit() -> None:
    x, h = random_inputs(), torch.ones(2, UNITS, dtype=torch.float64)
    layer = RNN(Conditioned(UNITS))
    layer(x, constants=[h, h])

    with pytest.raises(ValueError, match=r"called with 2 constants; .* has 1 tensors beside"):
        layer([x, h])
    with pytest.raises(ValueError, match="either in the list of inputs or as keywords"):
        layer([x, h], constants=[h, h])
    with pytest.raises(ValueError, match="RNN cell does not support constants"):
        RNN(GRUCell(UNITS))(x, constants=[h])
