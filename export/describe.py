"""torch → description: the one file that reads the layers of `models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

import models
from export.description import Dense, Description, Kind, Normalization, Recurrent
from export.errors import UnsupportedLayer
from models import activations

if TYPE_CHECKING:
    from export.description import Array, Layer
    from models.activations import Activation

_KINDS = {
    models.SimpleRNNCell: Kind.SIMPLE_RNN,
    models.GRUCell: Kind.GRU,
    models.LSTMCell: Kind.LSTM,
}


def describe(model: models.Sequential) -> Description:
    """Copy names, options and weights out of a built model.

    Raises:
        UnsupportedLayer: the model is not built or not causal, or it holds a layer, a cell, an
            activation or a dtype that has no ONNX form here.
    """
    if not model.built or model.input_shape is None:
        raise UnsupportedLayer(f"model {model.name!r} has no weights yet: build or train it first")
    layers = tuple(_layer(layer) for layer in model.layers)
    return Description(
        input_name=model.input_name,
        output_name=model.output_name,
        features=_features(layers[0]),
        time=len(model.input_shape) > 2,
        layers=layers,
    )


def _layer(layer: models.Layer) -> Layer:
    # Exact types: a subclass may compute anything.
    if type(layer) is models.Dense:
        return Dense(
            name=layer.name,
            kernel=_array(layer.name, layer.kernel),
            bias=_array(layer.name, layer.bias) if layer.use_bias else None,
            activation=_activation(layer.name, layer.activation),
        )
    if type(layer) is models.Normalization:
        mean, std = _array(layer.name, layer.mean), _array(layer.name, layer.std)
        return Normalization(layer.name, mean, std)
    if type(layer) in (models.RNN, models.SimpleRNN, models.GRU, models.LSTM):
        assert isinstance(layer, models.RNN)
        return _recurrent(layer)
    raise UnsupportedLayer(f"layer {layer.name!r}: {type(layer).__name__} has no ONNX form here")


def _recurrent(layer: models.RNN) -> Recurrent:
    cell, name = layer.cell, layer.name
    if not layer.return_sequences:
        raise UnsupportedLayer(
            f"layer {name!r} has return_sequences=False: a served model answers at every timestep; "
            "set it to True, the weights stay the same"
        )
    kind = _KINDS.get(type(cell))
    if kind is None:
        raise UnsupportedLayer(f"layer {name!r}: {type(cell).__name__} has no ONNX form here")
    if layer.go_backwards:
        raise UnsupportedLayer(
            f"layer {name!r} has go_backwards=True: it needs the whole sequence before its first "
            "step, so it has no state to keep between requests"
        )
    bias, recurrent_bias = _biases(name, cell)
    gated = kind is not Kind.SIMPLE_RNN
    return Recurrent(
        name=name,
        kind=kind,
        kernel=_array(name, cell.kernel),
        recurrent_kernel=_array(name, cell.recurrent_kernel),
        bias=bias,
        recurrent_bias=recurrent_bias,
        activation=_activation(name, cell.activation),
        recurrent_activation=_activation(name, cell.recurrent_activation) if gated else "linear",
        reset_after=kind is Kind.GRU and cell.reset_after,
        states=tuple(f"{name}_{state}" for state in layer.state_names),
    )


def _biases(name: str, cell: models.Cell) -> tuple[Array, Array]:
    """Input and recurrent bias, (G·u,) each; zeros where the cell has none."""
    zeros = np.zeros(cell.gates * cell.units, np.float32)
    if cell.bias is None:
        return zeros, zeros
    bias = _array(name, cell.bias)
    if bias.ndim == 2:  # GRU with reset_after: row 0 input, row 1 recurrent
        return bias[0], bias[1]
    return bias, zeros


def _features(layer: Layer) -> int:
    weight = layer.mean if isinstance(layer, Normalization) else layer.kernel
    return int(weight.shape[0])


def _activation(name: str, activation: Activation) -> str:
    known = activations.serialize(activation)
    if not isinstance(known, str):
        raise UnsupportedLayer(
            f"layer {name!r}: {activation!r} is not one of the named activations "
            f"({', '.join(activations.NAMED)}), which alone have an ONNX form here"
        )
    return known


def _array(name: str, weight: torch.Tensor) -> Array:
    if weight.dtype is not torch.float32:
        raise UnsupportedLayer(f"layer {name!r} has {weight.dtype} weights: export takes float32")
    return weight.detach().cpu().numpy().copy()
