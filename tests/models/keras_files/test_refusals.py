"""Models that cannot be rebuilt: each refusal names the layer, and what has no counterpart."""

from __future__ import annotations

import copy
import json
import shutil
from typing import TYPE_CHECKING, Any

import h5py
import pytest
import torch

import models
from models import constraints, initializers, regularizers
from models.keras_files import KerasFileError, hdf5, load_model
from tests.models.keras_files.edit import edited, layer
from tests.models.keras_files.reference import TOLERANCE, error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[dict[str, Any]], object]

SEQUENTIAL, FUNCTIONAL = "keras-3.15.1/sequential.keras", "keras-3.15.1/functional.keras"
TF_KERAS = "tf-keras-2.21.0/functional.keras"


def option(class_name: str, key: str, value: Any) -> Change:
    """Sets an option of the first layer of a class."""
    return lambda config: layer(config, class_name)["config"].__setitem__(key, value)


def class_of(old: str, new: str) -> Change:
    return lambda config: layer(config, old).__setitem__("class_name", new)


def nested(class_name: str, options: dict[str, Any] | None) -> dict[str, Any]:
    """An object in Keras 3's form."""
    return {"module": "keras", "class_name": class_name, "config": options, "registered_name": None}


OPTIONS = [
    (option("LSTM", "zero_output_for_mask", True), "no zero_output_for_mask here, and it is True"),
    (option("LSTM", "time_major", True), "there is no time_major here, and it is True"),
    (option("LSTM", "novelty", 3), "there is no novelty here, and it is 3"),
    (option("LSTM", "activation", "silu"), "Unknown activation function: silu"),
    (
        option("LSTM", "recurrent_activation", nested("function", {"code": "…"})),
        "the activation {'code': '…'} has no name here",
    ),
    (
        option("LSTM", "dtype", nested("DTypePolicy", {"name": "mixed_float16"})),
        "the dtype mixed_float16 is none of float32, float64",
    ),
    (
        option("LSTM", "kernel_initializer", nested("Variable", {})),
        "Unknown initializer: Variable. Known are",
    ),
    (
        option("LSTM", "kernel_initializer", nested("GlorotUniform", {"input_axes": [0]})),
        "unexpected keyword argument 'input_axes'",
    ),
    (
        option("LSTM", "bias_regularizer", nested("OrthogonalRegularizer", {"factor": 0.1})),
        "Unknown regularizer: OrthogonalRegularizer",
    ),
    (option("LSTM", "units", 0), "`units` is a positive integer"),
]


@pytest.mark.parametrize(("change", "message"), OPTIONS, ids=[message for _, message in OPTIONS])
def test_options(keras: Path, tmp_path: Path, change: Change, message: str) -> None:
    path = edited(keras / SEQUENTIAL, tmp_path / "m.keras", change)
    with pytest.raises(KerasFileError) as caught:
        load_model(path)

    assert str(caught.value).startswith("layer 'encoder' (LSTM): ")
    assert message in str(caught.value)


SEED = nested("SeedGenerator", {"seed": 3})
TRUNCATED = {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal", "seed": None}
TRANSLATED = [
    ("kernel_initializer", nested("HeNormal", {"seed": SEED}), initializers.he_normal()),
    ("kernel_initializer", nested("GlorotUniform", {"seed": 3}), initializers.glorot_uniform(3)),
    ("kernel_initializer", "lecun_normal", initializers.lecun_normal()),
    (
        "kernel_initializer",
        nested("VarianceScaling", TRUNCATED),
        initializers.VarianceScaling(2.0, "fan_out", "normal"),
    ),
    (
        "recurrent_initializer",
        nested("OrthogonalInitializer", {"gain": 2.0}),
        initializers.Orthogonal(2.0),
    ),
    ("bias_initializer", nested("Zeros", None), initializers.Zeros()),
    ("kernel_regularizer", nested("L2", {"l2": 0.1}), regularizers.L1L2(l2=0.1)),
    ("bias_constraint", nested("MaxNorm", {"max_value": 2, "axis": 0}), constraints.MaxNorm(2)),
]


@pytest.mark.parametrize(("key", "value", "expected"), TRANSLATED)
def test_options_by_other_names(
    keras: Path, tmp_path: Path, key: str, value: Any, expected: object
) -> None:
    path = edited(keras / SEQUENTIAL, tmp_path / "m.keras", option("LSTM", key, value))

    assert getattr(load_model(path).layers[1].cell, key) == expected


@pytest.mark.parametrize(
    ("key", "value"), [("time_major", False), ("use_cudnn", "auto"), ("seed", 3)]
)
def test_options_that_concern_no_number(keras: Path, tmp_path: Path, key: str, value: Any) -> None:
    path = edited(keras / SEQUENTIAL, tmp_path / "m.keras", option("LSTM", key, value))
    shutil.copy((keras / SEQUENTIAL).with_suffix(".npz"), tmp_path / "m.npz")

    assert error(load_model(path), path) < TOLERANCE


def test_doubles_stay_doubles(keras: Path, tmp_path: Path) -> None:
    policy = nested("DTypePolicy", {"name": "float64"})
    path = edited(keras / SEQUENTIAL, tmp_path / "m.keras", option("LSTM", "dtype", policy))

    assert load_model(path).layers[1].kernel.dtype is torch.float64


@models.register
class OwnCell(models.LSTMCell):
    """A cell that the file names, and only this program knows."""


def test_a_cell_of_ones_own(keras: Path, tmp_path: Path) -> None:
    path = edited(
        keras / "keras-3.15.1/rnn.keras",
        tmp_path / "m.keras",
        lambda config: layer(config, "RNN")["config"]["cell"].update(class_name="OwnCell"),
    )
    shutil.copy(keras / "keras-3.15.1/rnn.npz", tmp_path / "m.npz")
    model = load_model(path)

    assert type(model.layers[0].cell) is OwnCell
    assert error(model, path) < TOLERANCE


def test_a_cell_that_nobody_knows(keras: Path, tmp_path: Path) -> None:
    path = edited(
        keras / "keras-3.15.1/rnn.keras",
        tmp_path / "m.keras",
        lambda config: layer(config, "RNN")["config"]["cell"].update(class_name="Unknown"),
    )
    with pytest.raises(KerasFileError, match=r"'rnn' \(RNN\): Unknown layer: Unknown\..*register"):
        load_model(path)


def activation_first(config: dict[str, Any]) -> None:
    config["config"]["layers"].insert(1, copy.deepcopy(layer(config, "Activation")))
    option("Activation", "name", "first")(config)


LAYERS = [
    (class_of("Dropout", "Bidirectional"), "layer 'dropout' (Bidirectional) has no counterpart"),
    (class_of("Masking", "Embedding"), "layer 'masking' (Embedding) has no counterpart here"),
    (class_of("Masking", "Normalization"), "layer 'masking' (Normalization) has no counterpart"),
    (
        lambda config: layer(config, "TimeDistributed")["config"]["layer"].update(class_name="GRU"),
        "layer 'time_distributed': TimeDistributed(GRU) has no counterpart here",
    ),
    (
        activation_first,
        "layer 'first': an Activation has no counterpart here unless it comes after a Dense",
    ),
    (
        lambda config: layer(config, "TimeDistributed")["config"]["layer"]["config"].update(
            activation="tanh"
        ),
        "'time_distributed' has the activation 'tanh', and 'activation' another after it",
    ),
    (option("LSTM", "return_state", True), "encoder needs return_state=False"),
    (option("LSTM", "return_sequences", False), "encoder needs return_sequences=True"),
    (lambda config: config.update(class_name="Encoder"), "The file's model is a Encoder: only"),
]


@pytest.mark.parametrize(("change", "message"), LAYERS, ids=[message for _, message in LAYERS])
def test_layers(keras: Path, tmp_path: Path, change: Change, message: str) -> None:
    path = edited(keras / SEQUENTIAL, tmp_path / "m.keras", change)
    with pytest.raises(KerasFileError) as caught:
        load_model(path)

    assert message in str(caught.value)


# Functional models that are no row of layers


def inputs(config: dict[str, Any], class_name: str = "LSTM") -> dict[str, Any]:
    """How the first layer of a class is called."""
    call: dict[str, Any] = layer(config, class_name)["inbound_nodes"][0]
    return call


def twice(config: dict[str, Any]) -> None:
    nodes = layer(config, "LSTM")["inbound_nodes"]
    nodes.append(nodes[0])


def with_a_state(config: dict[str, Any]) -> None:
    call = inputs(config)
    call["args"] = [[call["args"][0], copy.deepcopy(call["args"][0])]]


def with_a_residual(config: dict[str, Any]) -> None:
    call = inputs(config, "Dropout")
    call["args"] = [*call["args"], inputs(config)["args"][0]]


def beside(config: dict[str, Any]) -> None:
    other = copy.deepcopy(layer(config, "Dropout"))
    other["config"]["name"] = other["name"] = "other"
    config["config"]["layers"].append(other)


def of_the_state(config: dict[str, Any]) -> None:
    inputs(config, "Dropout")["args"][0]["config"]["keras_history"][2] = 1


def other_mask(config: dict[str, Any]) -> None:
    inputs(config, "NotEqual")["args"][1] = 7.0


GRAPHS = [
    (twice, "'encoder' (LSTM) is used 2 times"),
    (with_a_state, "'encoder' (LSTM) reads 2 tensors: only one will do"),
    (with_a_residual, "'dropout' (Dropout) reads 2 tensors: only one will do"),
    (beside, "not in a row: 'other' (Dropout) beside it"),
    (of_the_state, "'dropout' (Dropout) reads a state of 'lstm', not its output"),
    (other_mask, "not in a row: 'not_equal' (NotEqual), 'any' (Any) beside it"),
    (
        lambda config: inputs(config)["kwargs"].update(initial_state=["h", "c"]),
        "'encoder' (LSTM) is called with initial_state=['h', 'c']",
    ),
    (
        lambda config: inputs(config)["kwargs"].update(training=True),
        "'encoder' (LSTM) is called with training=True",
    ),
    (
        lambda config: config["config"].update(
            input_layers=[["input_layer", 0, 0], ["other", 0, 0]]
        ),
        "The file's model has 2 inputs: only one will do",
    ),
    (
        lambda config: config["config"].update(
            output_layers={"a": ["lstm", 0, 0], "b": ["encoder", 0, 0]}
        ),
        "The file's model has 2 outputs: only one will do",
    ),
]


@pytest.mark.parametrize(("change", "message"), GRAPHS, ids=[message for _, message in GRAPHS])
def test_graphs(keras: Path, tmp_path: Path, change: Change, message: str) -> None:
    path = edited(keras / FUNCTIONAL, tmp_path / "m.keras", change)
    with pytest.raises(KerasFileError) as caught:
        load_model(path)

    assert message in str(caught.value)


def test_graphs_of_keras_2(keras: Path, tmp_path: Path) -> None:
    def mask_by_hand(config: dict[str, Any]) -> None:
        layer(config, "LSTM")["inbound_nodes"][0][0][3]["mask"] = ["masking", 0, 0]

    def two_inputs(config: dict[str, Any]) -> None:
        node = layer(config, "LSTM")["inbound_nodes"][0]
        node.append(["input_1", 0, 0, {}])

    path = edited(keras / TF_KERAS, tmp_path / "mask.keras", mask_by_hand)
    with pytest.raises(KerasFileError, match=r"'encoder' \(LSTM\) is called with mask="):
        load_model(path)
    path = edited(keras / TF_KERAS, tmp_path / "inputs.keras", two_inputs)
    with pytest.raises(KerasFileError, match=r"'encoder' \(LSTM\) reads 2 tensors"):
        load_model(path)


def test_a_model_without_weights(keras: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    shutil.copy(keras / "keras-2.2.4/sequential.h5", path)
    with h5py.File(path, "r+") as file:
        config = json.loads(hdf5.text(file, "model_config") or "")
        config["config"]["layers"] = [layer(config, "Masking")]
        file.attrs["model_config"] = json.dumps(config)

    with pytest.raises(KerasFileError, match=r"The model in m\.h5 has no weights"):
        load_model(path)


def test_a_layer_that_the_weights_do_not_know(keras: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    shutil.copy(keras / "keras-2.2.4/sequential.h5", path)
    with h5py.File(path, "r+") as file:
        names = hdf5.texts(file["model_weights"], "layer_names")
        file["model_weights"].attrs["layer_names"] = [n for n in names if n != "encoder"]

    with pytest.raises(KerasFileError, match=r"m\.h5 has no weights of 'encoder'"):
        load_model(path)
