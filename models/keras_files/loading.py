"""Weights of a file into layers: those of a model that is there, or of one made for the file."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import torch

from models.keras_files.errors import KerasFileError
from models.keras_files.fit import fitted, other_gates
from models.keras_files.plan import plan_of
from models.keras_files.reading import read
from models.keras_files.store import Slot, arrange
from models.masking import Masking
from models.normalization import Normalization
from models.recurrent import ConvLSTM2D
from models.rnn import RNN
from models.sequential import Sequential

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from models.keras_files.plan import Plan
    from models.keras_files.saved import Array, SavedLayer, SavedModel
    from models.layer import Layer
    from models.options import BatchShape

# What a file may call the layer whose weights ours can take.
_TWINS = {
    "LSTM": ("CuDNNLSTM",),
    "CuDNNLSTM": ("LSTM",),
    "GRU": ("CuDNNGRU",),
    "CuDNNGRU": ("GRU",),
    "Dense": ("TimeDistributed",),
}


def load_weights(model: Layer, path: str | os.PathLike[str]) -> None:
    """Copies the weights of a file of Keras into a layer or a Sequential.

    Layers are matched by name if the file has the names of all that have weights, else by order;
    the layers of a `.weights.h5`, which are neither named nor in order, by class, as in Keras.
    A model that is not built yet is built for the file's kernels. Weights of cuDNN's layers and of
    plain ones are converted into each other.

    Warns where a layer's gates have another activation than in the file. Raises KerasFileError
    where the file cannot be read or does not fit, OSError where it cannot be opened.
    """
    saved = read(path)
    layers = model.layers if isinstance(model, Sequential) else [model]
    targets = [layer for layer in layers if _has_weights(layer)]
    pairs = list(zip(targets, _matched(saved, targets), strict=True))
    if pairs and not model.built:
        first, source = pairs[0]
        shape = model.batch_input_shape or _input_shape(layers, first, source)
        model.build(shape)
    _copy(saved, pairs)
    for layer, source in pairs:
        warning = other_gates(saved, source, layer)
        if warning is not None:
            warnings.warn(warning, stacklevel=2)


def load_model(path: str | os.PathLike[str]) -> Sequential:
    """The model of a file that holds a whole one, as a Sequential, ready for inference.

    A Sequential of Keras will do, or a functional model whose layers are in a row, made of this
    package's layers. Dropout and the like are left out: a layer's own `dropout` stays.

    Raises KerasFileError, which names what has no counterpart here, or says what is wrong with the
    file; OSError where it cannot be opened.
    """
    saved = read(path)
    return assemble(saved, plan_of(saved))


def assemble(saved: SavedModel, plan: Plan) -> Sequential:
    """The model of a plan, with the weights of the file that the plan is for."""
    sources = {source.name: source for source in saved.layers}
    pairs: list[tuple[Layer, SavedLayer]] = []
    for step in plan.steps:
        if step.layer is not None and _has_weights(step.layer):
            source = sources.get(step.name)
            if source is None or not source.arrays:
                raise KerasFileError(f"{saved.path.name} has no weights of {step.name!r}.")
            pairs.append((step.layer, source))
    if not pairs:
        raise KerasFileError(f"The model in {saved.path.name} has no weights.")
    try:
        model = Sequential(plan.layers, name=_name(saved))
        model.build(plan.input_shape or _input_shape(plan.layers, *pairs[0]))
    except ValueError as error:
        raise KerasFileError(f"{saved.path.name}: {error}") from error
    _copy(saved, pairs)
    return model.eval()


def _copy(saved: SavedModel, pairs: Sequence[tuple[Layer, SavedLayer]]) -> None:
    """All weights, or none where one does not fit."""
    fits = [fit for layer, source in pairs for fit in fitted(saved, source, layer)]
    with torch.no_grad():
        for weight, value in fits:
            weight.copy_(value)


def _name(saved: SavedModel) -> str | None:
    config: Any = saved.config and saved.config["config"]
    name = config.get("name") if isinstance(config, dict) else None
    return name and re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _has_weights(layer: Layer) -> bool:
    """Weights of Keras', that is: a Normalization of ours has buffers alone."""
    if layer.built:
        return any(True for _ in layer.parameters())
    return not isinstance(layer, (Masking, Normalization))


def _matched(saved: SavedModel, targets: Sequence[Layer]) -> list[SavedLayer]:
    """The file's layer for each target."""
    if not saved.ordered:
        found = arrange(saved.layers, [_slot(layer) for layer in targets])
        sources = [source for source in found if source is not None and source.arrays]
        if len(sources) < len(targets):
            raise KerasFileError(
                f"{saved.path.name} has weights of {len(sources)} of the model's layers, not of "
                f"all of {', '.join(layer.name for layer in targets)}."
            )
        return sources
    sources = [source for source in saved.layers if source.arrays]
    by_name = {source.name: source for source in sources}
    if all(layer.name in by_name for layer in targets):
        return [by_name[layer.name] for layer in targets]
    if len(sources) != len(targets):
        raise KerasFileError(
            f"{saved.path.name} has weights of {len(sources)} layers "
            f"({', '.join(by_name)}), the model of {len(targets)} "
            f"({', '.join(layer.name for layer in targets)}): give its layers the names in the "
            "file, or have as many in the same order."
        )
    return sources


def _slot(layer: Layer) -> Slot:
    name = type(layer).__name__
    cells = getattr(getattr(layer, "cell", None), "cells", ())
    return Slot((name, *_TWINS.get(name, ())), tuple(type(cell).__name__ for cell in cells))


def _input_shape(layers: Sequence[Layer], first: Layer, source: SavedLayer) -> BatchShape:
    """The shape of inputs for the kernel of the `first` layer that has weights."""
    kernel: Array = next(iter(source.arrays.values()))
    if isinstance(first, ConvLSTM2D):
        channels = kernel.shape[-2]
        last = first.cell.data_format == "channels_last"
        return (None, None, None, None, channels) if last else (None, None, channels, None, None)
    recurrent = any(isinstance(layer, RNN) for layer in layers)
    return (None, None, kernel.shape[0]) if recurrent else (None, kernel.shape[0])
