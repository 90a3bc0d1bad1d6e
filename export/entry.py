"""The entry of a model in a repository: written aside, proven, then moved into place.

    DIR/<name>/config.pbtxt
    DIR/<name>/1/model.onnx

Until the proof has passed, the files lie in a hidden folder beside the entry, on the same file
system, so that moving them is a rename. An older entry of the same name stays until then.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from export.config import HEAD
from export.errors import ExportError
from export.program import CONFIG_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

VERSION = "1"
CONFIG_FILE = "config.pbtxt"
MODEL_FILE = "model.onnx"


@contextmanager
def staged(repository: Path, name: str) -> Iterator[Path]:
    """A hidden folder in the repository to write an entry into; it is gone when the block ends.

    Raises:
        ExportError: the repository cannot be written, or another tool's model has that name.
    """
    try:
        repository.mkdir(parents=True, exist_ok=True)
        _check_replaceable(repository / name)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}.new-", dir=repository))
    except OSError as error:
        raise ExportError(f"cannot write to {repository}: {error.strerror}") from error
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write(staging: Path, model: onnx.ModelProto) -> Path:
    """Write model.onnx and, from its metadata, config.pbtxt; returns the path of the model.

    Raises:
        ExportError: the disk is full or the like.
    """
    properties = {entry.key: entry.value for entry in model.metadata_props}
    path = staging / VERSION / MODEL_FILE
    try:
        staging.chmod(0o755)  # mkdtemp's 0700 would hide the entry from a server of another user
        path.parent.mkdir()
        path.write_bytes(model.SerializeToString(deterministic=True))
        (staging / CONFIG_FILE).write_text(properties[CONFIG_KEY], encoding="utf-8")
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}") from error
    return path


def publish(staging: Path, entry: Path) -> None:
    """Move the staged files to `entry`; an older entry is put back if that fails.

    Raises:
        ExportError: the move failed; an older entry is where it was.
    """
    try:
        if not entry.exists():
            staging.rename(entry)
            return
        with tempfile.TemporaryDirectory(prefix=f".{entry.name}.old-", dir=entry.parent) as aside:
            older = entry.rename(Path(aside) / entry.name)
            try:
                staging.rename(entry)
            except OSError:
                older.rename(entry)
                raise
    except OSError as error:
        raise ExportError(f"cannot replace {entry}: {error.strerror}") from error


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
