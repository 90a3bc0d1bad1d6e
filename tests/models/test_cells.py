"""One step of each cell, worked out by hand."""

from __future__ import annotations

import json

import pytest
import torch

from models import GRUCell, LSTMCell, SimpleRNNCell, activations

X = torch.tensor([[1.0, 2.0]])
H = torch.tensor([[0.5]])
C = torch.tensor([[0.25]])


def constant(**values: str) -> dict[str, object]:
    """Options that fill kernel and recurrent kernel with 0.1 and 0.2."""
    return {
        "kernel_initializer": {"class_name": "Constant", "config": {"value": 0.1}},
        "recurrent_initializer": {"class_name": "Constant", "config": {"value": 0.2}},
        **values,
    }


def test_simple_rnn_step() -> None:
    """x W + b + h U = 0.1·1 + 0.1·2 + 1 + 0.2·0.5 = 1.4, linear activation."""
    cell = SimpleRNNCell(1, activation="linear", **constant(bias_initializer="ones"))

    output, states = cell(X, (H,))

    assert output.item() == pytest.approx(1.4)
    assert len(states) == 1
    assert states[0] is output


def test_simple_rnn_step_with_tanh() -> None:
    """tanh(0.3 + 0.2·0.5) = tanh(0.4) = 0.379949."""
    output, _ = SimpleRNNCell(1, **constant())(X, (H,))

    assert output.item() == pytest.approx(0.379949, abs=1e-6)


def test_lstm_step() -> None:
    """Linear activation, hard sigmoid gates, bias [0, 1, 0, 0] (unit_forget_bias).

    All z are 0.3 + 0.2·0.5 = 0.4, with the bias z_f = 1.4:
    i = o = 0.2·0.4 + 0.5 = 0.58, f = 0.2·1.4 + 0.5 = 0.78.
    c = 0.78·0.25 + 0.58·0.4 = 0.195 + 0.232 = 0.427, h = 0.58·0.427 = 0.24766.
    """
    output, (h, c) = LSTMCell(1, activation="linear", **constant())(X, (H, C))

    assert c.item() == pytest.approx(0.427)
    assert h.item() == pytest.approx(0.24766)
    assert h is output


def test_lstm_gates_are_i_f_c_o() -> None:
    """No input, no recurrence; the biases saturate hard sigmoid: i=1, f=0, o=1, z_c = 0.3.

    c = 0·0.25 + 1·0.3 and h = 1·0.3. Any other order of the gates gives something else.
    """
    cell = LSTMCell(1, activation="linear")
    cell.build((None, 2))
    cell.set_weights([torch.zeros(2, 4), torch.zeros(1, 4), torch.tensor([9.0, -9.0, 0.3, 9.0])])

    _, (h, c) = cell(X, (H, C))

    assert c.item() == pytest.approx(0.3)
    assert h.item() == pytest.approx(0.3)


def test_gru_step_reset_before() -> None:
    """Linear activation, hard sigmoid gates, no bias; every x W is 0.3, every h U is 0.1.

    z = r = 0.2·0.4 + 0.5 = 0.58; hh = 0.3 + (0.58·0.5)·0.2 = 0.358.
    h = 0.58·0.5 + 0.42·0.358 = 0.29 + 0.15036 = 0.44036.
    """
    output, _ = GRUCell(1, activation="linear", **constant())(X, (H,))

    assert output.item() == pytest.approx(0.44036)


def test_gru_step_reset_after() -> None:
    """As above with all biases one, on both sides.

    z = r = 0.2·(0.3 + 1 + 0.1 + 1) + 0.5 = 0.98; hh = 1.3 + 0.98·(0.1 + 1) = 2.378.
    h = 0.98·0.5 + 0.02·2.378 = 0.49 + 0.04756 = 0.53756.
    """
    options = constant(bias_initializer="ones")
    output, _ = GRUCell(1, activation="linear", reset_after=True, **options)(X, (H,))

    assert output.item() == pytest.approx(0.53756)


def test_gru_gates_are_z_r_h() -> None:
    """z saturated at 1 keeps the state, whatever r and the candidate are."""
    cell = GRUCell(1)
    cell.build((None, 2))
    cell.set_weights([torch.zeros(2, 3), torch.zeros(1, 3), torch.tensor([9.0, -9.0, 5.0])])

    assert cell(X, (H,))[0].item() == pytest.approx(0.5)


@pytest.mark.parametrize("cell", [LSTMCell(1), GRUCell(1), GRUCell(1, reset_after=True)])
def test_softmax_gates_are_normalised_one_by_one(cell) -> None:
    """Over the one unit of a gate softmax is 1; over two gates at once it would not be.

    LSTM: c = 1·0.25 + 1·0, h = tanh(0.25) = 0.244919. GRU: z = 1 keeps the state.
    """
    cell.recurrent_activation = activations.get("softmax")
    cell.build((None, 2))
    cell.set_weights([torch.zeros_like(weight) for weight in cell.weights])
    with torch.no_grad():
        cell.recurrent_kernel[0, 0] = 3.0  # makes the first two gates differ

    states = (H, C) if isinstance(cell, LSTMCell) else (H,)
    expected = 0.244919 if isinstance(cell, LSTMCell) else 0.5
    assert cell(X, states)[0].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("cell", "shapes"),
    [
        (SimpleRNNCell(3), [(2, 3), (3, 3), (3,)]),
        (LSTMCell(3), [(2, 12), (3, 12), (12,)]),
        (GRUCell(3), [(2, 9), (3, 9), (9,)]),
        (GRUCell(3, reset_after=True), [(2, 9), (3, 9), (2, 9)]),
        (LSTMCell(3, use_bias=False), [(2, 12), (3, 12)]),
        (GRUCell(3, reset_after=True, use_bias=False), [(2, 9), (3, 9)]),
    ],
)
def test_weights_are_kernel_recurrent_kernel_bias(cell, shapes) -> None:
    cell.build((None, 2))

    assert [tuple(weight.shape) for weight in cell.weights] == shapes
    output, _ = cell(X, cell.get_initial_state(1))
    assert output.shape == (1, 3)


def test_unit_forget_bias_is_one_for_f_only() -> None:
    cell = LSTMCell(2)
    cell.build((None, 1))
    without = LSTMCell(2, unit_forget_bias=False)
    without.build((None, 1))

    assert cell.bias.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert without.bias.tolist() == [0] * 8


def test_state_and_output_sizes() -> None:
    assert (SimpleRNNCell(3).state_size, SimpleRNNCell(3).output_size) == (3, 3)
    assert (GRUCell(3).state_size, GRUCell(3).output_size) == (3, 3)
    assert (LSTMCell(3).state_size, LSTMCell(3).output_size) == ((3, 3), 3)


def test_defaults_are_those_of_keras_2() -> None:
    lstm, gru = LSTMCell(2).get_config(), GRUCell(2).get_config()

    assert lstm["recurrent_activation"] == gru["recurrent_activation"] == "hard_sigmoid"
    assert lstm["activation"] == gru["activation"] == "tanh"
    assert lstm["unit_forget_bias"] is True
    assert gru["reset_after"] is False


@pytest.mark.parametrize(
    "cell",
    [
        SimpleRNNCell(3, activation="relu", use_bias=False),
        LSTMCell(3, recurrent_activation="sigmoid", unit_forget_bias=False, name="memory"),
        GRUCell(3, reset_after=True, recurrent_initializer="identity"),
    ],
)
def test_config_round_trip(cell) -> None:
    config = json.loads(json.dumps(cell.get_config()))

    assert type(cell).from_config(config).get_config() == cell.get_config()


def test_units_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive integer, not 0"):
        LSTMCell(0)
