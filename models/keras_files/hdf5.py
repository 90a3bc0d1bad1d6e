"""Access to HDF5 as Keras uses it: lists of names as attributes, arrays as datasets.

A file may come from anybody: what leads out of it to other files of this machine is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from models.keras_files.errors import KerasFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.keras_files.saved import Array


def text(group: Any, name: str) -> str | None:
    """An attribute that is a text, written as bytes or as str; None if there is none."""
    value = group.attrs.get(name)
    return None if value is None else _text(value)


def texts(group: Any, name: str) -> list[str]:
    """An attribute that is a list of texts.

    HDF5 has a limit for the size of attributes: longer lists come in parts, `name0`, `name1`, …
    """
    if name in group.attrs:
        return [_text(value) for value in group.attrs[name]]
    found: list[str] = []
    part = 0
    while f"{name}{part}" in group.attrs:
        found += [_text(value) for value in group.attrs[f"{name}{part}"]]
        part += 1
    return found


def subgroup(group: Any, path: str) -> Any:
    """The group at `path`, whose names are separated by slashes."""
    found = _follow(group, path)
    if not isinstance(found, h5py.Group):
        raise KerasFileError(f"{path!r} in the file is not a group.")
    return found


def array(group: Any, path: str) -> Array:
    """The numbers of the dataset at `path`."""
    found = _follow(group, path)
    if not isinstance(found, h5py.Dataset):
        raise KerasFileError(f"{path!r} in the file is not an array.")
    if found.external or found.is_virtual:
        raise KerasFileError(f"The numbers of {path!r} lie in another file, which is not read.")
    return np.asarray(found)


def datasets(group: Any, prefix: str = "") -> Iterator[str]:
    """The paths of all datasets below `group`."""
    for name in group:
        path = prefix + name
        if isinstance(_follow(group, name), h5py.Group):
            yield from datasets(group[name], f"{path}/")
        else:
            yield path


def _follow(group: Any, path: str) -> Any:
    """What lies at `path`, by hard links alone."""
    for name in path.split("/"):
        link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
        if link is None:
            raise KerasFileError(f"The file has no {path!r}, although it names it.")
        if not isinstance(link, h5py.HardLink):
            raise KerasFileError(f"{path!r} in the file is a link, which is not followed.")
        group = group[name]
    return group


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
