"""Reads the files under models/data, wherever the package is installed."""

from __future__ import annotations

import gzip
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from models.datasets.sequences import Array


def arrays(name: str) -> dict[str, Array]:
    """All arrays of the file `name`, an .npz."""
    with _path(name).open("rb") as stream, np.load(stream) as file:
        return dict(file)


def lines(name: str) -> list[str]:
    """The lines of the file `name`, a text in gzip."""
    return gzip.decompress(_path(name).read_bytes()).decode("ascii").splitlines()


def _path(name: str) -> Traversable:
    return resources.files("models") / "data" / name
