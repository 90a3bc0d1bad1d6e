"""The entry of a model in a repository: written aside, proven, then moved into place.

    DIR/<name>/config.pbtxt
    DIR/<name>/1/model.onnx

How it comes there is in `inspection.staging`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from export.config import HEAD
from export.errors import ExportError
from export.program import CONFIG_KEY
from inspection import staging
from inspection.staging import CONFIG_FILE, MODEL_FILE, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx


@contextmanager
def staged(repository: Path, name: str) -> Iterator[Path]:
    """A hidden folder in the repository to write an entry into; it is gone when the block ends.

    Raises:
        ExportError: the repository cannot be written, or another tool's model has that name.
    """
    with staging.staged(repository, name, ExportError) as folder:
        try:
            _check_replaceable(repository / name)
        except OSError as error:
            raise ExportError(f"cannot write to {repository}: {error.strerror}") from error
        yield folder


def write(folder: Path, model: onnx.ModelProto) -> Path:
    """Write model.onnx and, from its metadata, config.pbtxt; returns the path of the model.

    Raises:
        ExportError: the disk is full or the like.
    """
    properties = {entry.key: entry.value for entry in model.metadata_props}
    path = folder / VERSION / MODEL_FILE
    try:
        path.parent.mkdir()
        path.write_bytes(model.SerializeToString(deterministic=True))
        (folder / CONFIG_FILE).write_text(properties[CONFIG_KEY], encoding="utf-8")
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}") from error
    return path


def _check_replaceable(entry: Path) -> None:
    """Refuse to delete what `rnnserve export` did not write."""
    if not entry.exists():
        return
    ours = {CONFIG_FILE, VERSION, f"{VERSION}/{MODEL_FILE}"}
    found = {str(path.relative_to(entry)) for path in entry.rglob("*")}
    config = entry / CONFIG_FILE
    if found - ours or not config.is_file() or not config.read_bytes().startswith(HEAD.encode()):
        raise ExportError(
            f"{entry} holds files that `rnnserve export` did not write, and a new export would "
            "delete them: choose another --name or move them away"
        )
