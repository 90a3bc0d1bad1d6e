"""Weights of every kind of file into models that are there."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from models.keras_files import KerasFileError, SavedLayer, SavedModel, load_weights, read
from models.keras_files.fit import fitted
from tests.models.keras_files.reference import TOLERANCE, error, names, own_model

ALL = names(".h5", "_weights.h5", ".weights.h5", ".keras")


@pytest.mark.parametrize("name", ALL)
def test_a_model_that_is_not_built_answers_as_keras_did(keras: Path, name: str) -> None:
    model = own_model(name)
    load_weights(model, keras / name)

    assert error(model, keras / name) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in ALL if "/stack" in name or "/seq" in name])
def test_a_model_that_is_built_does_so_too(keras: Path, name: str) -> None:
    model = own_model(name)
    model.build((None, None, 3))
    load_weights(model, keras / name)

    assert error(model, keras / name) < TOLERANCE


def test_fixtures_do_not_answer_alike_by_chance(keras: Path) -> None:
    """The tolerance tells the cells' orders of a stack apart, and its frozen ones."""
    path = keras / "keras-3.15.1/stack_frozen.weights.h5"
    model = own_model("keras-3.15.1/stack_frozen.weights.h5")
    load_weights(model, path)
    first, second, _ = model.layers[0].cell.cells
    weights = first.get_weights(), second.get_weights()
    first.set_weights(weights[1])
    second.set_weights(weights[0])

    assert error(model, path) > 0.01


def test_one_layer_by_its_name(keras: Path) -> None:
    """It is neither the first nor the only one in the file."""
    path = keras / "keras-2.2.4/sequential.h5"
    layer = models.LSTM(2, name="lstm_1")
    load_weights(layer, path)

    expected = next(saved for saved in read(path).layers if saved.name == "lstm_1")
    for found, array in zip(layer.get_weights(), expected.arrays.values(), strict=True):
        np.testing.assert_array_equal(found, array)


# cuDNN and plain layers


@pytest.mark.parametrize("name", [name for name in ALL if "/cudnn_lstm" in name])
def test_cudnn_lstm_into_a_plain_one(keras: Path, name: str) -> None:
    plain = models.LSTM(4, recurrent_activation="sigmoid", return_sequences=True)
    load_weights(plain, keras / name)

    assert error(plain, keras / name) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in ALL if "/cudnn_gru" in name])
def test_cudnn_gru_into_a_plain_one(keras: Path, name: str) -> None:
    plain = models.GRU(4, recurrent_activation="sigmoid", reset_after=True)
    load_weights(plain, keras / name)

    assert error(plain, keras / name) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in ALL if "/gru_reset_after" in name])
def test_a_plain_gru_into_cudnn(keras: Path, name: str) -> None:
    cudnn = models.CuDNNGRU(4)
    load_weights(cudnn, keras / name)

    assert error(cudnn, keras / name) < TOLERANCE


def test_a_plain_lstm_into_cudnn(keras: Path) -> None:
    """The encoder of the sequential case has the gates of cuDNN where that is the default."""
    path = keras / "tf-keras-2.21.0/sequential.h5"
    cudnn, plain = models.CuDNNLSTM(4, name="encoder"), models.LSTM(4, name="encoder")
    load_weights(cudnn, path)
    with pytest.warns(UserWarning, match="recurrent_activation is 'sigmoid' in the file"):
        load_weights(plain, path)
    plain.cell.recurrent_activation = torch.sigmoid
    x = torch.randn(2, 5, 3)

    torch.testing.assert_close(cudnn(x), plain(x))


def test_gru_without_reset_after_and_cudnn_do_not_convert(keras: Path) -> None:
    with pytest.raises(KerasFileError, match=r"'cu_dnngru' into 'gru' \(GRU\): .* before the prod"):
        load_weights(models.GRU(4), keras / "tf-keras-2.21.0/cudnn_gru.weights.h5")
    with pytest.raises(KerasFileError, match=r"into 'gru' \(GRU\): CuDNNGRU → GRU\(reset_a"):
        load_weights(models.GRU(4), keras / "keras-2.2.4/cudnn_gru.h5")
    with pytest.raises(KerasFileError, match="there is no such conversion"):
        load_weights(models.CuDNNGRU(4), keras / "keras-2.2.4/gru.h5")


def test_cudnn_always_has_a_bias(keras: Path) -> None:
    with pytest.raises(KerasFileError, match="cuDNN always have a bias"):
        load_weights(models.CuDNNLSTM(4), keras / "keras-2.2.4/lstm_without_bias.h5")


def gru_without_bias(reset_after: bool | None) -> tuple[SavedModel, SavedLayer]:
    random = np.random.default_rng(0)
    arrays = {
        "kernel": random.normal(size=(3, 12)),
        "recurrent_kernel": random.normal(size=(4, 12)),
    }
    config = None if reset_after is None else {"reset_after": reset_after}
    layer = SavedLayer("gru", arrays, True, "GRU", config)
    return SavedModel(Path("gru.h5"), (layer,), True), layer


@pytest.mark.parametrize("reset_after", [True, False])
def test_without_a_bias_the_config_tells_the_gru(reset_after: bool) -> None:
    same = models.GRU(4, use_bias=False, reset_after=reset_after)
    other = models.GRU(4, use_bias=False, reset_after=not reset_after)
    for layer in (same, other):
        layer.build((None, None, 3))

    assert len(fitted(*gru_without_bias(reset_after), same)) == 2
    assert len(fitted(*gru_without_bias(None), other)) == 2  # nobody knows
    with pytest.raises(KerasFileError, match="there is no such conversion"):
        fitted(*gru_without_bias(reset_after), other)


# What is not as in the file


@pytest.mark.parametrize(
    ("name", "layer", "theirs"),
    [
        ("keras-2.2.4/cudnn_lstm_weights.h5", models.LSTM(4), "'sigmoid' in the file, 'hard_sigm"),
        (
            "keras-3.15.1/lstm.keras",
            models.LSTM(4),
            r"'hard_sigmoid' \(of Keras 3: x/6 \+ 0.5\) in",
        ),
        ("keras-3.15.1/lstm.h5", models.CuDNNLSTM(4), r"\(of Keras 3: .*\) in the file, 'sigmoid'"),
        (
            "tf-keras-2.21.0/gru.h5",
            models.GRU(4, "tanh", "tanh"),
            "'hard_sigmoid' in the file, 'ta",
        ),
    ],
)
def test_other_gates_are_warned_of(
    keras: Path, name: str, layer: models.Layer, theirs: str
) -> None:
    with pytest.warns(UserWarning, match=theirs) as caught:
        load_weights(layer, keras / name)
    assert caught[0].filename == __file__


def test_no_warning_without_a_reason(keras: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_weights(models.LSTM(4), keras / "keras-2.2.4/lstm.h5")
        load_weights(models.LSTM(4), keras / "keras-3.15.1/lstm.weights.h5")  # it does not tell


def test_other_shapes(keras: Path) -> None:
    message = (
        r"lstm\.h5, 'lstm_1' into 'lstm' \(LSTM\): the layer takes weights of \(3, 20\), "
        r"\(5, 20\), \(20,\), those in the file are \(3, 16\), \(4, 16\), \(16,\)\."
    )
    with pytest.raises(KerasFileError, match=message):
        load_weights(models.LSTM(5), keras / "keras-2.2.4/lstm.h5")


def test_another_class(keras: Path) -> None:
    with pytest.raises(KerasFileError, match=r"'lstm_1' into 'gru' \(GRU\): the layer takes"):
        load_weights(models.GRU(4), keras / "keras-2.2.4/lstm.h5")
    with pytest.raises(KerasFileError, match="weights of lstm, which the model has no layer for"):
        load_weights(models.GRU(4), keras / "keras-3.15.1/lstm.weights.h5")


def test_too_few_layers(keras: Path) -> None:
    two = models.Sequential([models.LSTM(4, return_sequences=True), models.Dense(3)])
    with pytest.raises(
        KerasFileError,
        match=r"weights of 3 layers \(encoder, lstm_1, time_distributed_1\), the model of 2 "
        r"\(lstm, dense\): give its layers the names in the file",
    ):
        load_weights(two, keras / "keras-2.2.4/sequential.h5")
    with pytest.raises(KerasFileError, match="weights of lstm_1, which the model has no layer for"):
        load_weights(two, keras / "keras-3.15.1/sequential.weights.h5")


def test_too_many_layers(keras: Path) -> None:
    two = models.Sequential([models.LSTM(4, return_sequences=True), models.Dense(3)])
    with pytest.raises(
        KerasFileError, match="weights of 1 of the model's layers, not of all of lstm, d"
    ):
        load_weights(two, keras / "keras-3.15.1/lstm.weights.h5")


def test_a_file_that_is_refused_changes_nothing(keras: Path) -> None:
    """Not even those layers that it would fit."""
    name = "keras-2.2.4/sequential.h5"
    model = models.Sequential([*own_model(name).layers[:-1], models.Dense(7)])
    model.build((None, None, 3))
    before = model.get_weights()
    with pytest.raises(KerasFileError, match="'time_distributed_1' into 'dense'"):
        load_weights(model, keras / name)

    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
