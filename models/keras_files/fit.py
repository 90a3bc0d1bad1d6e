"""One layer of a file for one of ours: which array goes into which weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models import activations
from models.cells import CuDNNGRUCell, CuDNNLSTMCell, GRUCell, LSTMCell
from models.keras_files.convert import Layout, convert, recognise
from models.keras_files.errors import KerasFileError
from models.keras_files.options import activation
from models.recurrent import ConvLSTM2D

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from models.keras_files.saved import SavedLayer, SavedModel
    from models.layer import Layer


def fitted(saved: SavedModel, source: SavedLayer, layer: Layer) -> list[tuple[Tensor, Tensor]]:
    """The weights of `layer`, a built one, each with its value in `source`, a layer of `saved`.

    KerasFileError where they do not fit. Nothing is changed.
    """
    arrays = list(source.arrays.values())
    layout = _layout_of(layer)
    if layout is not None:
        try:
            arrays = convert(arrays, _layout_in_file(source, layout), layout)
        except KerasFileError as error:
            raise KerasFileError(f"{_pair(saved, source, layer)}: {error}") from error
    if saved.backend == "theano" and isinstance(layer, ConvLSTM2D):
        # Theano turns kernels round: its convolution is one, ours, like TensorFlow's, is none.
        arrays = [array[::-1, ::-1] if array.ndim == 4 else array for array in arrays]
    if any(array.dtype.kind != "f" for array in arrays):
        kinds = ", ".join(str(array.dtype) for array in arrays)
        raise KerasFileError(f"{_pair(saved, source, layer)}: weights are floats, not {kinds}.")
    own = layer.weights if source.trained_first else list(layer.parameters())
    shapes, expected = [array.shape for array in arrays], [tuple(weight.shape) for weight in own]
    if shapes != expected:
        raise KerasFileError(
            f"{_pair(saved, source, layer)}: the layer takes weights of {_listed(expected)}, "
            f"those in the file are {_listed(shapes)}."
        )
    values = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    return list(zip(own, values, strict=True))


def other_gates(saved: SavedModel, source: SavedLayer, layer: Any) -> str | None:
    """A warning, if the file tells how gates are computed, and the layer computes them otherwise.

    None if they agree, or the file does not tell.
    """
    layout = _layout_of(layer)
    if layout is None:
        return None
    theirs = (source.config or {}).get("recurrent_activation")
    if _layout_in_file(source, layout).raw:
        theirs = "sigmoid"
    ours = layer.cell.recurrent_activation
    if theirs is None or activations.get(activation(theirs, saved.major)) is ours:
        return None
    slope = " (of Keras 3: x/6 + 0.5)" if activation(theirs, saved.major) != theirs else ""
    return (
        f"{_pair(saved, source, layer)}: the recurrent_activation is {theirs!r}{slope} in the "
        f"file, {activations.serialize(ours)!r} in the layer. It will not compute what Keras did."
    )


def _layout_of(layer: Layer) -> Layout | None:
    """The layout of a layer whose class has a twin with another; None for all others."""
    cell = getattr(layer, "cell", None)
    if isinstance(cell, CuDNNLSTMCell):
        return Layout.CUDNN_LSTM
    if isinstance(cell, CuDNNGRUCell):
        return Layout.CUDNN_GRU
    if isinstance(cell, LSTMCell):
        return Layout.LSTM
    if isinstance(cell, GRUCell):
        return Layout.GRU_RESET_AFTER if cell.reset_after else Layout.GRU
    return None


def _layout_in_file(source: SavedLayer, wanted: Layout) -> Layout:
    """The layout in the file, for a layer that wants `wanted`; that one where nothing tells."""
    arrays = list(source.arrays.values())
    found = recognise(arrays, wanted.gates)
    if found is not None or len(arrays) != 2:
        return found or wanted
    if wanted.gates == 4:
        return Layout.LSTM
    reset_after = (source.config or {}).get("reset_after", wanted is not Layout.GRU)
    return Layout.GRU_RESET_AFTER if reset_after else Layout.GRU


def _pair(saved: SavedModel, source: SavedLayer, layer: Layer) -> str:
    return f"{saved.path.name}, {source.name!r} into {layer.name!r} ({type(layer).__name__})"


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes)) or "no shape"
