"""Whole models of every Keras, rebuilt from the file alone, answer as Keras did."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import h5py
import pytest
import torch
from torch.nn import functional

import models
from models import activations
from models.keras_files import KerasFileError, hdf5, load_model
from tests.models.keras_files.edit import edited, layer
from tests.models.keras_files.reference import TOLERANCE, error, names

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = names(".h5", ".keras")


@pytest.mark.parametrize("name", WHOLE)
def test_answers_as_keras_did(keras: Path, name: str) -> None:
    model = load_model(keras / name)

    assert not model.training
    assert error(model, keras / name) < TOLERANCE


def test_every_class_is_there_in_every_kind_of_file() -> None:
    found = {name.rpartition("/")[2] for name in WHOLE}
    for case in ("simple_rnn", "gru", "gru_reset_after", "lstm", "conv_lstm_2d", "rnn", "stack"):
        assert {f"{case}.h5", f"{case}.keras"} <= found
        assert f"keras-2.2.4/{case}.h5" in WHOLE
    assert {"cudnn_gru.h5", "cudnn_lstm.h5", "cudnn_gru.keras", "cudnn_lstm.keras"} <= found


@pytest.mark.parametrize(
    ("name", "gates"),
    [
        ("keras-2.2.4/lstm.h5", activations.hard_sigmoid),
        ("tf-keras-2.21.0/lstm.keras", activations.hard_sigmoid),
        ("keras-3.15.1/lstm.h5", functional.hardsigmoid),
        ("keras-3.15.1/lstm.keras", functional.hardsigmoid),
    ],
)
def test_hard_sigmoid_is_that_of_the_keras_that_wrote_the_file(
    keras: Path, name: str, gates: activations.Activation
) -> None:
    (lstm,) = load_model(keras / name).layers
    x = torch.linspace(-4, 4, 9)

    torch.testing.assert_close(lstm.cell.recurrent_activation(x), gates(x))


@pytest.mark.parametrize("name", ["keras-2.2.4/functional.h5", "keras-3.15.1/functional.keras"])
def test_layers_keep_names_options_and_order(keras: Path, name: str) -> None:
    model = load_model(keras / name)
    _, encoder, second, head = model.layers

    kinds = [type(one) for one in model.layers]
    assert kinds == [models.Masking, models.LSTM, models.LSTM, models.Dense]
    assert encoder.name == "encoder"
    assert head.name.startswith("time_distributed")
    assert (second.dropout, second.return_sequences) == (0.25, True)
    assert head.activation is activations.softmax
    assert model.input_shape == (None, None, 3)


def test_frozen_cells_stay_frozen(keras: Path) -> None:
    (stack,) = load_model(keras / "tf-keras-2.21.0/stack_frozen.keras").layers

    assert [cell.trainable for cell in stack.cell.cells] == [False, True, False]
    assert len(stack.trainable_weights) == 3


def test_a_stateful_model_keeps_its_batch_size(keras: Path, tmp_path: Path) -> None:
    def make_stateful(config: dict[str, Any]) -> None:
        layer(config, "LSTM")["config"]["stateful"] = True
        layer(config, "InputLayer")["config"]["batch_shape"] = [3, 5, 3]

    path = edited(keras / "keras-3.15.1/lstm.keras", tmp_path / "lstm.keras", make_stateful)
    shutil.copy(keras / "keras-3.15.1/lstm.npz", tmp_path)
    model = load_model(path)

    assert model.input_shape == (3, None, 3)
    assert error(model, path) < TOLERANCE  # states begin at zero …
    assert error(model, path) > 0.01  # … and go on


def test_input_shape_from_the_kernel_where_the_config_has_none(keras: Path, tmp_path: Path) -> None:
    def forget(config: dict[str, Any]) -> None:
        config["config"]["layers"].remove(layer(config, "InputLayer"))

    path = edited(keras / "keras-3.15.1/stack.keras", tmp_path / "stack.keras", forget)

    assert load_model(path).input_shape == (None, None, 3)


def test_names_that_torch_cannot_have(keras: Path, tmp_path: Path) -> None:
    def rename(config: dict[str, Any]) -> None:
        layer(config, "LSTM")["config"]["name"] = "block 1/lstm.a"

    path = edited(keras / "keras-3.15.1/lstm.keras", tmp_path / "lstm.keras", rename)

    assert [one.name for one in load_model(path).layers] == ["block_1_lstm_a"]


def test_configs_before_keras_2_2_3_were_lists(keras: Path, tmp_path: Path) -> None:
    path = tmp_path / "lstm.h5"
    shutil.copy(keras / "keras-2.2.4/lstm.h5", path)
    shutil.copy(keras / "keras-2.2.4/lstm.npz", tmp_path)
    with h5py.File(path, "r+") as file:
        config = hdf5.text(file, "model_config")
        assert config is not None
        start, end = config.index('"layers": ') + len('"layers": '), config.rindex("}}")
        layers = config[start:end]
        file.attrs["model_config"] = f'{{"class_name": "Sequential", "config": {layers}}}'

    assert error(load_model(path), path) < TOLERANCE


@pytest.mark.parametrize("name", names("_weights.h5", ".weights.h5")[::7])
def test_weights_alone_make_no_model(keras: Path, name: str) -> None:
    with pytest.raises(KerasFileError, match=r"holds weights alone: save the whole model in Keras"):
        load_model(keras / name)
