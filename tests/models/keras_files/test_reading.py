"""What is in a file, by which order, and what is refused before anything is believed of it."""

from __future__ import annotations

import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

import models
from models.keras_files import KerasFileError, load_model, load_weights, read
from models.keras_files.store import Slot, arrange
from tests.models.keras_files.reference import TOLERANCE, case_of, error, names, own_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def copy(keras: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies a fixture, with Keras' answers, to where it may be changed."""

    def copied(name: str) -> Path:
        shutil.copy((keras / name).with_name(f"{case_of(name)}.npz"), tmp_path)
        shutil.copy(keras / name, tmp_path)
        return tmp_path / (keras / name).name

    return copied


def test_what_a_whole_model_holds(keras: Path) -> None:
    saved = read(keras / "keras-2.2.4/sequential.h5")
    encoder = saved.layers[1]

    assert (saved.keras_version, saved.major, saved.backend) == ("2.2.4", 2, "tensorflow")
    assert saved.config is not None
    assert (encoder.name, encoder.class_name) == ("encoder", "LSTM")
    assert encoder.config is not None
    assert encoder.config["units"] == 4
    assert [layer.name for layer in saved.layers] == [
        *("masking_1", "encoder", "lstm_1", "dropout_1", "time_distributed_1", "activation_1")
    ]


@pytest.mark.parametrize("name", names("_weights.h5", ".weights.h5"))
def test_weights_alone_have_no_config(keras: Path, name: str) -> None:
    saved = read(keras / name)

    assert saved.config is None
    assert saved.ordered is not name.endswith(".weights.h5")
    assert (saved.keras_version is None) is name.endswith(".weights.h5")


@pytest.mark.parametrize("name", names(".h5", "_weights.h5"))
def test_kernels_come_before_biases(keras: Path, name: str) -> None:
    """HDF5's own order is alphabetical."""
    for layer in read(keras / name).layers:
        kinds = [weight.rpartition("/")[2].partition(":")[0] for weight in layer.arrays]
        without_numbers = [kind.rstrip("_0123456789") for kind in kinds]
        expected = ["kernel", "recurrent_kernel", "bias"]
        if "dense" in layer.name or "time" in layer.name:
            expected = ["kernel", "bias"]
        if "without_bias" in name:
            expected = ["kernel", "recurrent_kernel"]
        assert without_numbers == expected * (len(kinds) // len(expected))


@pytest.mark.parametrize("name", ["keras-2.2.4/stack_weights.h5", "keras-3.15.1/stack.h5"])
def test_attributes_in_parts(copy: Callable[[str], Path], name: str) -> None:
    """HDF5 cannot hold a long list of names: Keras then writes weight_names0, weight_names1, …"""
    path = copy(name)
    expected = [list(layer.arrays) for layer in read(path).layers]
    with h5py.File(path, "r+") as file:
        group = file.get("model_weights", file)
        for owner, attribute in [(group, "layer_names")] + [
            (child, "weight_names") for child in group.values()
        ]:
            whole = [str(v.decode() if isinstance(v, bytes) else v) for v in owner.attrs[attribute]]
            del owner.attrs[attribute]
            owner.attrs[f"{attribute}0"] = whole[:2]
            owner.attrs[f"{attribute}1"] = [text.encode() for text in whole[2:]]

    assert [list(layer.arrays) for layer in read(path).layers] == expected


def test_kernels_of_theano_are_turned_round(copy: Callable[[str], Path]) -> None:
    path = copy("keras-2.2.4/conv_lstm_2d.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = b"theano"
        for kernel in ("kernel:0", "recurrent_kernel:0"):
            dataset = file[f"model_weights/conv_lst_m2d_1/conv_lst_m2d_1/{kernel}"]
            dataset[...] = dataset[...][::-1, ::-1]

    assert error(load_model(path), path) < TOLERANCE


def test_states_of_random_generators_are_no_weights(copy: Callable[[str], Path]) -> None:
    path = copy("keras-3.15.1/stack.weights.h5")
    with h5py.File(path, "r+") as file:
        file["layers/dropout/seed_generator/vars/0"] = np.zeros(2, "uint32")
        file["layers/rnn/cell/cells/lstm_cell/seed_generator/vars/0"] = np.zeros(2, "uint32")
    model = own_model("keras-3.15.1/stack.weights.h5")
    load_weights(model, path)

    assert error(model, path) < TOLERANCE


def test_layers_under_their_older_name(copy: Callable[[str], Path]) -> None:
    path = copy("tf-keras-2.21.0/stack.weights.h5")
    with h5py.File(path, "r+") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    model = own_model("tf-keras-2.21.0/stack.weights.h5")
    load_weights(model, path)

    assert error(model, path) < TOLERANCE


def test_arrays_are_sorted_by_number(copy: Callable[[str], Path]) -> None:
    path = copy("keras-3.15.1/lstm.weights.h5")
    with h5py.File(path, "r+") as file:
        for number in range(3, 12):
            file[f"layers/lstm/cell/vars/{number}"] = np.full(1, number, "float32")

    (layer,) = read(path).layers
    assert [name.rpartition("/")[2] for name in layer.arrays] == [str(n) for n in range(12)]


def test_layers_of_one_class_are_told_apart_by_their_numbers(keras: Path) -> None:
    saved = read(keras / "keras-3.15.1/sequential.weights.h5")
    outline = [Slot((name,)) for name in ("LSTM", "TimeDistributed", "LSTM")]

    arranged = arrange(saved.layers, outline)
    assert [layer and layer.name for layer in arranged] == ["encoder", "time_distributed", "lstm"]


# What is refused


def no_keras(path: Path) -> None:
    path.write_bytes(b"weights")


def other_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["measurements"] = np.zeros(3)


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (no_keras, r"m\.h5 is not a file of Keras: neither HDF5 nor a \.keras archive"),
        (other_hdf5, r"m\.h5 is HDF5, but not of Keras: it has no layers"),
        (other_zip, r"m\.h5 is a zip, but not of Keras: it has no m"),
    ],
)
def test_other_files(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "m.h5")
    with pytest.raises(KerasFileError, match=message):
        read(tmp_path / "m.h5")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "m.keras")


def test_a_damaged_archive(copy: Callable[[str], Path]) -> None:
    path = copy("keras-3.15.1/lstm.keras")
    data = bytearray(path.read_bytes())
    data[data.index(b'"class_name"')] ^= 1
    path.write_bytes(data)

    with pytest.raises(KerasFileError, match=r"lstm\.keras is damaged: Bad CRC-32"):
        read(path)


def change_attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file.attrs[name] = value

    return change


def without_an_array(file: h5py.File) -> None:
    del file["lstm_1/lstm_1/bias:0"]


def with_a_link(file: h5py.File) -> None:
    del file["lstm_1/lstm_1/bias:0"]
    file["lstm_1/lstm_1/bias:0"] = h5py.ExternalLink("elsewhere.h5", "/bias")


def with_numbers_elsewhere(file: h5py.File) -> None:
    del file["lstm_1/lstm_1/bias:0"]
    file["lstm_1/lstm_1"].create_dataset(
        "bias:0", (16,), "float32", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]
    )


def with_an_array_for_a_group(file: h5py.File) -> None:
    del file["lstm_1"]
    file["lstm_1"] = np.zeros(3)


def with_a_group_for_an_array(file: h5py.File) -> None:
    del file["lstm_1/lstm_1/bias:0"]
    file.create_group("lstm_1/lstm_1/bias:0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_attribute("keras_version", b"1.2.2"), "written by Keras 1, whose layers"),
        (without_an_array, "The file has no 'lstm_1/bias:0', although it names it"),
        (with_a_link, "'lstm_1/bias:0' in the file is a link, which is not followed"),
        (with_numbers_elsewhere, "The numbers of 'lstm_1/bias:0' lie in another file"),
        (with_a_group_for_an_array, "'lstm_1/bias:0' in the file is not an array"),
        (with_an_array_for_a_group, "'lstm_1' in the file is not a group"),
        (change_attribute("layer_names", [b"lstm_2"]), "The file has no 'lstm_2'"),
    ],
)
def test_files_that_are_not_believed(
    copy: Callable[[str], Path], change: Callable[[h5py.File], None], message: str
) -> None:
    path = copy("keras-2.2.4/lstm_weights.h5")
    with h5py.File(path, "r+") as file:
        change(file)

    with pytest.raises(KerasFileError, match=message):
        read(path)


def test_a_file_without_a_version_is_of_keras_1(copy: Callable[[str], Path]) -> None:
    path = copy("keras-2.2.4/lstm_weights.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["keras_version"]

    with pytest.raises(KerasFileError, match="written by Keras 1"):
        read(path)


def test_integers_do_not_matter_in_layers_that_nobody_wants(copy: Callable[[str], Path]) -> None:
    path = copy("keras-2.2.4/sequential_weights.h5")
    with h5py.File(path, "r+") as file:
        group = file["time_distributed_1/time_distributed_1"]
        del group["bias:0"]
        group["bias:0"] = np.zeros(3, "int64")
    load_weights(models.LSTM(2, name="lstm_1"), path)

    with pytest.raises(KerasFileError, match="weights are floats, not float32, int64"):
        load_weights(models.Dense(3, name="time_distributed_1"), path)
