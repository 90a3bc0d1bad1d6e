"""Weights of cuDNN's layers and of plain ones: as Keras converts them, and as cuDNN reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import models
from models.keras_files import KerasFileError, Layout, convert, read
from models.keras_files.convert import recognise

if TYPE_CHECKING:
    from pathlib import Path

    from models.keras_files.saved import Array

PAIRS = {
    "CuDNNLSTM": (Layout.CUDNN_LSTM, Layout.LSTM),
    "LSTM": (Layout.LSTM, Layout.CUDNN_LSTM),
    "CuDNNGRU": (Layout.CUDNN_GRU, Layout.GRU_RESET_AFTER),
    "GRU": (Layout.GRU_RESET_AFTER, Layout.CUDNN_GRU),
}
PLAIN = (Layout.LSTM, Layout.GRU_RESET_AFTER)


def weights(layout: Layout, features: int = 3, units: int = 4) -> list[Array]:
    random = np.random.default_rng(0)
    shapes = (features, layout.gates * units), (units, layout.gates * units)
    return [random.normal(size=shape) for shape in (*shapes, layout.bias_shape(units))]


@pytest.mark.parametrize("keras_version", ["keras-2.2.4", "tf-keras-2.21.0"])
@pytest.mark.parametrize("name", PAIRS)
def test_to_the_bit_as_keras_does(keras: Path, keras_version: str, name: str) -> None:
    with np.load(keras / keras_version / "conversions.npz") as stored:
        before, after = (
            [stored[f"{name}/{moment}/{number}"] for number in range(3)]
            for moment in ("before", "after")
        )
    for found, expected in zip(convert(before, *PAIRS[name]), after, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["cudnn_lstm", "cudnn_gru"])
def test_files_hold_what_cudnn_takes(keras: Path, name: str) -> None:
    """torch hands cuDNN each gate's matrix `(u, D)`, row by row: the same numbers in a row."""
    (layer,) = read(keras / f"keras-2.2.4/{name}.h5").layers
    kernel, recurrent_kernel, bias = layer.arrays.values()
    gates = ["i", "f", "g", "o"] if name == "cudnn_lstm" else ["z", "r", "n"]
    in_torch = [0, 1, 2, 3] if name == "cudnn_lstm" else [1, 0, 2]  # torch's GRU begins with r
    kernels, recurrent_kernels = (
        np.split(k, len(gates), axis=1) for k in (kernel, recurrent_kernel)
    )
    biases = bias.reshape(2, len(gates), 4)
    rnn = (torch.nn.LSTM if name == "cudnn_lstm" else torch.nn.GRU)(3, 4, batch_first=True)
    rows = {
        "weight_ih_l0": np.concatenate([kernels[gate].reshape(4, 3) for gate in in_torch]),
        "weight_hh_l0": np.concatenate(
            [recurrent_kernels[gate].reshape(4, 4) for gate in in_torch]
        ),
        "bias_ih_l0": np.concatenate([biases[0, gate] for gate in in_torch]),
        "bias_hh_l0": np.concatenate([biases[1, gate] for gate in in_torch]),
    }
    rnn.load_state_dict({key: torch.from_numpy(value) for key, value in rows.items()})
    with np.load(keras / f"keras-2.2.4/{name}.npz") as stored:
        outputs = rnn(torch.from_numpy(stored["x"]))[0].detach().numpy()
        expected = stored["y"]

    found = outputs if expected.ndim == 3 else outputs[:, -1]
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("plain", PLAIN)
def test_there_and_back(plain: Layout) -> None:
    cudnn = next(target for source, target in PAIRS.values() if source is plain)
    before = weights(plain)
    after = convert(convert(before, plain, cudnn), cudnn, plain)

    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", ["CuDNNLSTM", "CuDNNGRU"])
def test_our_own_cudnn_layers_take_keras_weights_as_they_are(name: str) -> None:
    """They compute what the plain layer computes with the converted ones."""
    raw, plain = PAIRS[name]
    before = weights(raw)
    cudnn = getattr(models, name)(4, return_sequences=True)
    layer = {"CuDNNLSTM": models.LSTM, "CuDNNGRU": models.GRU}[name](
        4,
        recurrent_activation="sigmoid",
        return_sequences=True,
        **({"reset_after": True} if name == "CuDNNGRU" else {}),
    )
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    for each, own in ((cudnn, before), (layer, convert(before, raw, plain))):
        each.build((None, None, 3))
        each.set_weights(own)

    torch.testing.assert_close(cudnn(x), layer(x), rtol=0, atol=1e-6)


def test_the_arrays_given_stay_as_they_are() -> None:
    before, copies = weights(Layout.LSTM), weights(Layout.LSTM)
    convert(before, Layout.LSTM, Layout.CUDNN_LSTM)

    for old, copy in zip(before, copies, strict=True):
        np.testing.assert_array_equal(old, copy)


@pytest.mark.parametrize("layout", [Layout.LSTM, Layout.GRU, *(pair[0] for pair in PAIRS.values())])
def test_the_bias_tells_the_layout(layout: Layout) -> None:
    assert recognise(weights(layout), layout.gates) is layout
    assert recognise(weights(layout)[:2], layout.gates) is None


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (Layout.GRU, Layout.CUDNN_GRU, "the reset gate before the product"),
        (Layout.CUDNN_GRU, Layout.GRU, r"CuDNNGRU → GRU\(reset_after=False\): there is no such"),
        (Layout.GRU, Layout.GRU_RESET_AFTER, "there is no such conversion"),
        (Layout.LSTM, Layout.CUDNN_GRU, "The weights of LSTM are none of CuDNNGRU"),
    ],
)
def test_what_does_not_convert(source: Layout, target: Layout, message: str) -> None:
    with pytest.raises(KerasFileError, match=message):
        convert(weights(source), source, target)


def test_a_bias_of_another_layout() -> None:
    with pytest.raises(
        KerasFileError, match=r"bias of LSTM with 4 units has the shape \(16,\), not \(32,\)"
    ):
        convert(weights(Layout.CUDNN_LSTM), Layout.LSTM, Layout.CUDNN_LSTM)
