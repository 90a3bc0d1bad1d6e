"""The entry of a model in a repository: written aside, proven, then moved into place.

    DIR/<name>/config.pbtxt
    DIR/<name>/1/model.onnx        and its external data beside it
    DIR/<name>/constants/<input>.npy

How it comes there is in staging.py.
"""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from inspection import staging
from inspection.errors import Refused
from inspection.staging import CONFIG_FILE, MODEL_FILE, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from inspection.reading import Model
    from inspection.roles import Constant

CONSTANTS = "constants"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def name_for(path: Path, given: str | None) -> str:
    """The model's name: as given, else the file's, else its folder's. Raises Refused."""
    stem = path.stem if path.stem != "model" else path.absolute().parent.name
    name = given if given is not None else re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).lstrip(".-")
    if not _NAME.fullmatch(name):
        raise Refused(
            f"--name {name!r}: expected letters, digits, '_', '-' and '.', beginning with neither"
            " '.' nor '-'"
        )
    return name


@contextmanager
def staged(repository: Path, name: str, *, replace: bool) -> Iterator[Path]:
    """A hidden folder in the repository to write an entry into; it is gone when the block ends.

    Raises Refused where the repository cannot be written, or has a model of that name already.
    """
    if (repository / name).exists() and not replace:
        raise Refused(f"{repository / name} exists; choose another --name, or say --replace")
    with staging.staged(repository, name, Refused) as folder:
        yield folder


def write(folder: Path, model: Model, constants: Iterable[Constant], config: str) -> None:
    """Copy the model with its external data and constants, and write its configuration.

    Raises Refused.
    """
    version = folder / VERSION
    files = {model.path: version / MODEL_FILE}
    files |= {model.path.parent / name: version / name for name in model.external_files}
    files |= {c.file: folder / CONSTANTS / c.configured for c in constants if c.file is not None}
    try:
        for source, target in files.items():
            if not target.resolve().is_relative_to(folder.resolve()):
                raise Refused(
                    f"{model.path}: external data in {source}; expected it beside the file"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        (folder / CONFIG_FILE).write_text(config, encoding="utf-8")
    except OSError as error:
        raise Refused(f"cannot write {folder}: {error.strerror}") from None
