"""`.keras`: a zip with the model's config, the weights as a `.weights.h5`, and the version."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h5py

from models.keras_files.chain import entries
from models.keras_files.errors import KerasFileError
from models.keras_files.saved import SavedLayer, SavedModel
from models.keras_files.store import arrange, outline_of, read_store

if TYPE_CHECKING:
    from pathlib import Path

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def read_archive(path: Path) -> SavedModel:
    """Everything in the archive; layers in the order of the config."""
    with zipfile.ZipFile(path) as archive:
        missing = {CONFIG, METADATA, WEIGHTS} - set(archive.namelist())
        if missing:
            raise KerasFileError(
                f"{path.name} is a zip, but not of Keras: it has no {missing.pop()}."
            )
        config = json.loads(archive.read(CONFIG))
        version = json.loads(archive.read(METADATA))["keras_version"]
        with h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r") as file:
            stored = read_store(file)
    described = entries(config)
    arranged = arrange(stored, outline_of(described))
    layers = (_named(layer, entry) for layer, entry in zip(arranged, described, strict=True))
    return SavedModel(path, tuple(layers), True, config, version)


def _named(layer: SavedLayer | None, entry: Any) -> SavedLayer:
    layer = layer or SavedLayer("", {}, trained_first=False)
    name, config = entry["config"]["name"], entry["config"]
    return replace(layer, name=name, class_name=entry["class_name"], config=config)
