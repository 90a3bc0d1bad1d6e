"""StackedRNNCells: several cells as one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from models import (
    GRU,
    LSTM,
    RNN,
    ConvLSTM2DCell,
    GRUCell,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    StackedRNNCells,
    deserialize,
    serialize,
)

FEATURES = 3
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}


def random_inputs() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 5, FEATURES, dtype=torch.float64)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def three() -> list[Any]:
    return [LSTMCell(2), SimpleRNNCell(3), GRUCell(4, recurrent_activation="sigmoid")]


def layers_of(stack: RNN, **options: Any) -> list[RNN]:
    """One layer per cell of the stack, with the same cells."""
    return [RNN(cell, **options) for cell in stack.cell.cells]


def reversed_stack(cells: list[Any]) -> StackedRNNCells:
    with pytest.warns(UserWarning, match="`reverse_state_order=True` in `StackedRNNCells`"):
        return StackedRNNCells(cells, reverse_state_order=True)


def test_equals_one_layer_after_the_other() -> None:
    x = random_inputs()
    stack = RNN(three(), **ALL)
    outputs, *states = stack(x)

    expected: list[Tensor] = []
    for layer in layers_of(stack, **ALL):
        x, *own = layer(x)
        expected += own
    close(outputs, x)
    close(states, expected)


def test_one_step_equals_the_cells_called_in_turn() -> None:
    x = random_inputs()[:, 0]
    stack = StackedRNNCells(three())
    states = [torch.randn(2, size, dtype=torch.float64) for size in stack.state_size]
    output, new = stack(x, states)

    x, first = stack.cells[0](x, states[:2])
    x, second = stack.cells[1](x, states[2:3])
    x, third = stack.cells[2](x, states[3:])
    close(output, x)
    close(new, (*first, *second, *third))


def test_a_list_of_cells_is_a_stack() -> None:
    layer = RNN(three())

    assert type(layer.cell) is StackedRNNCells
    assert serialize(layer) == serialize(RNN(StackedRNNCells(three())))


def test_the_first_cells_states_come_first() -> None:
    cells = [LSTMCell(2), LSTMCell(3)]
    stack = StackedRNNCells(cells)

    assert stack.state_size == (2, 2, 3, 3)
    assert stack.state_names == ("cell_0_h", "cell_0_c", "cell_1_h", "cell_1_c")
    assert stack.output_size == 3


def test_the_last_cells_states_come_first_in_reverse_order() -> None:
    """[h2, c2, h1, c1], both those that are given and those that are returned."""
    x, cells = random_inputs(), [LSTMCell(2), LSTMCell(3)]
    stack = reversed_stack(cells)
    reverse, forward = RNN(stack, **ALL), RNN(cells, **ALL)
    h1, c1 = torch.randn(2, 2, 2, dtype=torch.float64)
    h2, c2 = torch.randn(2, 2, 3, dtype=torch.float64)

    outputs, *states = reverse(x, initial_state=[h2, c2, h1, c1])

    expected, *others = forward(x, initial_state=[h1, c1, h2, c2])
    close(outputs, expected)
    close(states, [others[2], others[3], others[0], others[1]])
    assert stack.state_size == (3, 3, 2, 2)
    assert stack.state_names == ("cell_1_h", "cell_1_c", "cell_0_h", "cell_0_c")
    close(stack(x[:, 0], [h2, c2, h1, c1])[1], reverse.scan(x[:, :1], (h2, c2, h1, c1))[1])


def test_reverse_order_is_part_of_the_config() -> None:
    stack = reversed_stack([LSTMCell(2), GRUCell(3)])
    config = json.loads(json.dumps(serialize(stack)))

    with pytest.warns(UserWarning, match="reverse_state_order"):
        twin = deserialize(config)

    assert twin.state_size == (3, 2, 2)
    assert "reverse_state_order" not in StackedRNNCells(three()).get_config()


def test_masked_steps_reach_every_cell() -> None:
    """What is masked changes no state; before the first step that counts, a stack gives zeros."""
    x = random_inputs()
    mask = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 1, 0]], dtype=torch.bool)
    stack = RNN(three(), **ALL)
    start = [torch.randn(2, size, dtype=torch.float64) for size in stack.cell.state_size]

    outputs, *states = stack(x, mask=mask, initial_state=start)

    for row in range(2):
        own = [state[row : row + 1] for state in start]
        kept, *final = stack(x[row : row + 1, mask[row]], initial_state=own)
        close(outputs[row, mask[row]], kept[0])
        close([state[row : row + 1] for state in states], final)
    assert (outputs[0, 0] == 0).all()
    close(outputs[0, 3], outputs[0, 2])


def test_a_stack_in_a_stack() -> None:
    x, cells = random_inputs(), three()
    flat = RNN(cells, **ALL)
    expected = flat(x)
    nested = RNN([StackedRNNCells(cells[:2]), cells[2]], **ALL)

    close(nested(x), expected)
    assert nested.cell.state_names == (
        "cell_0_cell_0_h",
        "cell_0_cell_0_c",
        "cell_0_cell_1_h",
        "cell_1_h",
    )


def test_a_subclass_computes_what_it_says() -> None:
    """It is not taken apart into its cells."""

    class Doubling(StackedRNNCells):
        def call(self, inputs: Tensor, states: Any, **keywords: Any) -> Any:
            output, new = super().call(inputs, states, **keywords)
            return 2 * output, new

    x, cells = random_inputs(), three()

    close(RNN(Doubling(cells))(x), 2 * RNN(cells)(x))


def test_constants_go_to_the_cells_that_take_them() -> None:
    class Shifted(GRUCell):
        def call(self, inputs: Tensor, states: Any, constants: Any = None) -> Any:
            return super().call(inputs + constants[0], states)

        def build(self, input_shape: Any) -> None:
            super().build(input_shape[0])

    x, shift = random_inputs(), torch.full((2, 1), 0.5, dtype=torch.float64)
    first, second = GRUCell(2), Shifted(3)
    found = RNN([first, second])(x, constants=[shift])

    plain = GRU(3)
    plain.build((2, 5, 2))
    plain.double().set_weights(second.get_weights())
    close(found, plain(RNN(first, return_sequences=True)(x) + shift[:, None]))


def test_stateful() -> None:
    x = random_inputs()
    layer = RNN(three(), stateful=True, return_sequences=True)
    whole = RNN(layer.cell, return_sequences=True)

    close(torch.cat([layer(x[:, :2]), layer(x[:, 2:])], dim=1), whole(x))
    layer.reset_states([torch.ones(2, n) for n in (2, 2, 3, 4)])
    close(layer(x), whole(x, initial_state=[torch.ones(2, n).double() for n in (2, 2, 3, 4)]))


@pytest.mark.parametrize(
    ("cells", "error", "message"),
    [
        ([], ValueError, "A stack needs at least one cell"),
        ([object()], ValueError, "All cells must have a `call` method"),
        ([type("Cell", (), {"call": None})()], ValueError, "must have a `state_size` attribute"),
        ([ConvLSTM2DCell(2, 3)], TypeError, "not possible at the moment to stack convolutional"),
    ],
)
def test_what_cannot_be_stacked(cells, error, message) -> None:
    with pytest.raises(error, match=message):
        RNN(cells)


def test_inputs_have_a_time_axis_more_than_the_first_cell_takes() -> None:
    for layer in (RNN(three()), LSTM(2), SimpleRNN(2)):
        with pytest.raises(ValueError, match="expected ndim=3, found ndim=4"):
            layer(torch.zeros(2, 5, FEATURES, 1))
        assert not layer.built
