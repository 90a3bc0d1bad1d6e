"""The kinds of file, told apart by what is in them: names may end as they like."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from models.keras_files.archive import read_archive
from models.keras_files.errors import KerasFileError
from models.keras_files.legacy import is_legacy, read_legacy
from models.keras_files.saved import SavedModel
from models.keras_files.store import is_store, read_store

if TYPE_CHECKING:
    import os


def read(path: str | os.PathLike[str]) -> SavedModel:
    """What the file holds: `.h5`, `.weights.h5` or `.keras`, of weights alone or of a whole model.

    Raises OSError where it cannot be opened, KerasFileError where it is no such file.
    """
    path = Path(path)
    with path.open("rb"):  # says by itself what is wrong
        pass
    if zipfile.is_zipfile(path):
        try:
            return read_archive(path)
        except zipfile.BadZipFile as error:
            raise KerasFileError(f"{path.name} is damaged: {error}") from error
    if not h5py.is_hdf5(path):
        raise KerasFileError(
            f"{path.name} is not a file of Keras: neither HDF5 nor a .keras archive."
        )
    with h5py.File(path, "r") as file:
        if is_legacy(file):
            return read_legacy(path, file)
        if is_store(file):
            return SavedModel(path, tuple(read_store(file)), ordered=False)
    raise KerasFileError(f"{path.name} is HDF5, but not of Keras: it has no layers.")
