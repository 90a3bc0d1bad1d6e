"""`.weights.h5`, also within `.keras`: the format of Keras 3 and of the later tf_keras.

    layers/KEY/…/vars/0, 1, …

A KEY is made of the layer's class: `lstm`, `lstm_1`, … The order of layers of different classes is
nowhere in the file, and neither is that of the cells in a stack, `cell/cells/KEY/vars/0`. Both come
from a model, or from its config, as an outline.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from models.keras_files import hdf5
from models.keras_files.errors import KerasFileError
from models.keras_files.saved import SavedLayer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.keras_files.saved import Config

LAYERS = "layers"
OLDER_LAYERS = "_layer_checkpoint_dependencies"  # what tf_keras called them at first
RANDOM_STATE = "seed_generator"


class Slot(NamedTuple):
    """A layer in an outline: the classes it may have in the file, and those of its cells."""

    classes: tuple[str, ...]
    cells: tuple[str, ...] = ()


def is_store(file: Any) -> bool:
    """Whether an open HDF5 file is of this format."""
    return LAYERS in file or OLDER_LAYERS in file


def read_store(file: Any) -> list[SavedLayer]:
    """The layers, in no order; named as the file names them, else by their keys."""
    group = hdf5.subgroup(file, LAYERS if LAYERS in file else OLDER_LAYERS)
    return [_layer(hdf5.subgroup(group, key), key) for key in group]


def arrange(layers: Iterable[SavedLayer], outline: Iterable[Slot]) -> list[SavedLayer | None]:
    """For each slot the layer that is meant, its cells in order; None where there is none.

    KerasFileError if layers with weights are left over.
    """
    rest = {layer.key: layer for layer in layers}
    taken: Counter[str] = Counter()
    found: list[SavedLayer | None] = []
    for slot in outline:
        names = [_snake_case(name) for name in slot.classes]
        name = next((name for name in names if _numbered(name, taken) in rest), names[0])
        layer = rest.pop(_numbered(name, taken), None)
        taken[name] += 1
        found.append(layer and _with_cells_in_order(layer, slot.cells))
    strangers = [str(key) for key, layer in rest.items() if layer.arrays]
    if strangers:
        raise KerasFileError(
            f"The file has weights of {', '.join(strangers)}, which the model has no layer for."
        )
    return found


def outline_of(entries: Sequence[Config]) -> list[Slot]:
    """The outline of a model from the configs of its layers."""
    return [Slot((entry["class_name"],), _cells(entry["config"])) for entry in entries]


def _cells(config: Config) -> tuple[str, ...]:
    cell = config.get("cell", {}).get("config", {})
    return tuple(entry["class_name"] for entry in cell.get("cells", ()))


def _layer(group: Any, key: str) -> SavedLayer:
    paths = [path for path in hdf5.datasets(group) if RANDOM_STATE not in path.split("/")]
    arrays = {path: hdf5.array(group, path) for path in sorted(paths, key=_place)}
    name = hdf5.text(group["vars"], "name") if "vars" in group else None
    return SavedLayer(name or key, arrays, trained_first=False, key=key)


def _place(path: str) -> tuple[str, int]:
    """Arrays are numbered: 10 comes after 9."""
    folder, _, number = path.rpartition("/")
    return folder, int(number) if number.isdecimal() else 0


def _with_cells_in_order(layer: SavedLayer, cells: Sequence[str]) -> SavedLayer:
    taken: Counter[str] = Counter()
    folders: list[str] = []
    for name in map(_snake_case, cells):
        folders.append(f"cell/cells/{_numbered(name, taken)}/vars")
        taken[name] += 1

    def place(path: str) -> int:
        folder = path.rpartition("/")[0]
        return folders.index(folder) if folder in folders else len(folders)

    # Within a cell the arrays are in order already, and sorting keeps them so.
    arrays = {path: layer.arrays[path] for path in sorted(layer.arrays, key=place)}
    return replace(layer, arrays=arrays)


def _numbered(name: str, taken: Counter[str]) -> str:
    return f"{name}_{taken[name]}" if taken[name] else name


def _snake_case(name: str) -> str:
    """Keras' own, of its saving: `ConvLSTM2D` → `conv_lstm2d`, `CuDNNGRU` → `cu_dnngru`."""
    split = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", split).lower()
