"""Sequential: one function of inputs and states, whole or in pieces."""

from __future__ import annotations

import json

import pytest
import torch

from models import GRU, LSTM, Dense, Normalization, Sequential, SimpleRNN, deserialize, serialize

FEATURES = 3


def make() -> Sequential:
    torch.manual_seed(0)
    return Sequential(
        [
            Normalization(),
            LSTM(5, return_sequences=True),
            GRU(4, reset_after=True, return_sequences=True),
            SimpleRNN(4, return_sequences=True, name="last"),
            Dense(2, activation="softmax"),
        ],
        output_name="probabilities",
    )


def close(actual, expected) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_output_per_timestep() -> None:
    y = make()(torch.randn(2, 6, FEATURES))

    assert y.shape == (2, 6, 2)
    close(y.sum(dim=-1), torch.ones(2, 6))


def test_states_spec_names_all_states_in_layer_order() -> None:
    model = make()

    assert model.states_spec() == [
        ("lstm_h", (5,)),
        ("lstm_c", (5,)),
        ("gru_h", (4,)),
        ("last_h", (4,)),
    ]
    assert [tuple(state.shape) for state in model.initial_state(3)] == [
        (3, 5),
        (3, 5),
        (3, 4),
        (3, 4),
    ]


def test_step_in_pieces_equals_one_call() -> None:
    model, x = make(), torch.randn(2, 6, FEATURES)
    whole = model(x)
    states = tuple(model.initial_state(2))
    pieces = []
    for piece in x.split([1, 3, 2], dim=1):
        y, states = model.step(piece, states)
        pieces.append(y)

    close(torch.cat(pieces, dim=1), whole)
    close(states, model.step(x, model.initial_state(2))[1])


def test_initial_state_reaches_every_layer() -> None:
    model, x = make(), torch.randn(2, 6, FEATURES)
    states = [torch.randn_like(state) for state in model.initial_state(2)]

    close(model(x, initial_state=states), model.step(x, states)[0])
    close(torch.softmax(model.logits(x, initial_state=states), -1), model(x, initial_state=states))


def test_mask_reaches_every_layer() -> None:
    """What stands in masked frames makes no difference anywhere."""
    model, x = make(), torch.randn(2, 6, FEATURES)
    mask = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 1, 1, 0, 1, 1]], dtype=torch.bool)
    other = torch.where(mask[..., None], x, torch.full_like(x, 50.0))

    close(model(other, mask=mask), model(x, mask=mask))
    close(model.logits(other, mask=mask), model.logits(x, mask=mask))


def test_stateful_layers_inside() -> None:
    model = Sequential([LSTM(3, return_sequences=True, stateful=True), Dense(2)])
    x = torch.randn(2, 4, FEATURES)
    first, second = model(x[:, :1]), model(x[:, 1:])
    model.reset_states()
    again = model(x)

    close(torch.cat([first, second], dim=1), again)
    assert model.get_config()["input_shape"] == (2, None, FEATURES)


def test_config_round_trip_builds_an_equal_model() -> None:
    model, x = make(), torch.randn(2, 6, FEATURES)
    expected = model(x)
    config = json.loads(json.dumps(serialize(model)))
    twin = deserialize(config)
    twin.load_state_dict(model.state_dict())

    close(twin(x), expected)
    assert json.loads(json.dumps(serialize(twin))) == config
    assert config["config"]["input_shape"] == [None, None, FEATURES]


def test_config_of_a_model_not_built() -> None:
    assert not Sequential.from_config(make().get_config()).built


def test_names_are_made_unique() -> None:
    layers = [LSTM(2, return_sequences=True) for _ in range(3)]
    model = Sequential([*layers, LSTM(2, return_sequences=True, name="lstm_1")])

    assert [layer.name for layer in model.layers] == ["lstm", "lstm_2", "lstm_3", "lstm_1"]


def test_weights_in_layer_order() -> None:
    model = make()
    model.build((None, None, FEATURES))

    shapes = [tuple(weight.shape) for weight in model.weights]
    assert shapes[:5] == [(3,), (3,), (3, 20), (5, 20), (20,)]
    assert model.compute_output_shape((None, None, FEATURES)) == (None, None, 2)


def test_causal() -> None:
    assert make().causal
    assert not Sequential([LSTM(2, return_sequences=True, go_backwards=True)]).causal


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        Sequential([])
    with pytest.raises(ValueError, match="lstm needs return_sequences=True: another recurrent"):
        Sequential([LSTM(2), LSTM(2)])
    with pytest.raises(ValueError, match="return_state=False"):
        Sequential([LSTM(2, return_sequences=True, return_state=True)])
    with pytest.raises(ValueError, match="used twice: a"):
        Sequential([Dense(2, name="a"), Dense(2, name="a")])
    with pytest.raises(ValueError, match="'values' is a name of torch's own"):
        Sequential([Dense(2, name="values")])
    with pytest.raises(TypeError, match="not Linear"):
        Sequential([torch.nn.Linear(2, 2)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="Logits need a Dense as the last layer, not LSTM"):
        Sequential([LSTM(2, return_sequences=True)]).logits(torch.zeros(1, 1, 2))
    with pytest.raises(ValueError, match="has 4 states but was passed 1"):
        make().step(torch.zeros(1, 1, FEATURES), [torch.zeros(1, 5)])
