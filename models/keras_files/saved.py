"""What a file of Keras holds, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

Array: TypeAlias = np.ndarray[Any, Any]
Config: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class SavedLayer:
    """One layer: its name, its arrays by their names in the file, and what else the file knows.

    `arrays` are in Keras' order. `trained_first` says which one: that of `Layer.weights`, trained
    ones before frozen ones, or that in which the layer made them. They differ for stacks of which
    some cells are frozen. `key` is what a `.weights.h5` calls the layer.
    """

    name: str
    arrays: Mapping[str, Array]
    trained_first: bool
    class_name: str | None = None
    config: Config | None = None
    key: str | None = None


@dataclass(frozen=True)
class SavedModel:
    """A file: which Keras wrote it, the model's config, and the layers.

    Weights alone have no config (None). `ordered` is false where the file does not tell the order
    of its layers: `arrange` puts them, and the cells of stacks, in that of a model.
    """

    path: Path
    layers: tuple[SavedLayer, ...]
    ordered: bool
    config: Config | None = None
    keras_version: str | None = None
    backend: str | None = None

    @property
    def major(self) -> int | None:
        """The first number of the version; None where the file has none."""
        return None if self.keras_version is None else int(self.keras_version.partition(".")[0])
