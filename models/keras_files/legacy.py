"""`.h5`: the format of Keras 2, which Keras 3 still writes.

    attributes: layer_names, keras_version, backend
    LAYER/                       attribute: weight_names
        NAME                     one array for each of them; names may hold slashes

A file with the whole model has this below `model_weights`, and the model's config as the attribute
`model_config`. The order of layers and weights is that of the attributes: HDF5's own is
alphabetical, so that bias would come before kernel.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from models.keras_files import hdf5
from models.keras_files.chain import entries
from models.keras_files.errors import KerasFileError
from models.keras_files.saved import SavedLayer, SavedModel

if TYPE_CHECKING:
    from pathlib import Path

    from models.keras_files.saved import Config

WHOLE_MODEL, LAYERS = "model_weights", "layer_names"


def is_legacy(file: Any) -> bool:
    """Whether an open HDF5 file is of this format."""
    return WHOLE_MODEL in file or LAYERS in file.attrs or f"{LAYERS}0" in file.attrs


def read_legacy(path: Path, file: Any) -> SavedModel:
    """Everything in an open file, which lies at `path`."""
    group = hdf5.subgroup(file, WHOLE_MODEL) if WHOLE_MODEL in file else file
    version = hdf5.text(group, "keras_version") or "1"
    if version.startswith("1"):
        raise KerasFileError(
            f"{path.name} was written by Keras 1, whose layers had an array for each gate: load it "
            "with Keras 2 and save it again."
        )
    described = hdf5.text(file, "model_config")
    config = None if described is None else json.loads(described)
    known = {} if config is None else {entry["config"]["name"]: entry for entry in entries(config)}
    names = hdf5.texts(group, LAYERS)
    layers = tuple(_layer(hdf5.subgroup(group, name), name, known.get(name)) for name in names)
    return SavedModel(path, layers, True, config, version, hdf5.text(group, "backend"))


def _layer(group: Any, name: str, entry: Config | None) -> SavedLayer:
    arrays = {weight: hdf5.array(group, weight) for weight in hdf5.texts(group, "weight_names")}
    if entry is None:
        return SavedLayer(name, arrays, trained_first=True)
    return SavedLayer(name, arrays, True, entry["class_name"], entry["config"])
