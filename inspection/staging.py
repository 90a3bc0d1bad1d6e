"""How an entry comes into a repository: written aside, proven, then moved into place.

Until then the files lie in a hidden folder of the repository, on the same file system, so that
moving them is a rename. An older entry of the same name stays until the new one stands there.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION, CONFIG_FILE, MODEL_FILE = "1", "config.pbtxt", "model.onnx"


@contextmanager
def staged(repository: Path, name: str, refusal: type[Exception]) -> Iterator[Path]:
    """A hidden folder to write an entry into; it is gone when the block ends.

    Raises `refusal` where the repository cannot be written.
    """
    try:
        repository.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}.new-", dir=repository))
    except OSError as error:
        raise refusal(f"cannot write to {repository}: {error.strerror}") from error
    try:
        staging.chmod(0o755)  # mkdtemp's 0700 would hide the entry from a server of another user
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def publish(staging: Path, entry: Path, refusal: type[Exception]) -> None:
    """Move the staged files to `entry`. Raises `refusal`; an older entry is then where it was."""
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
        raise refusal(f"cannot replace {entry}: {error.strerror}") from error
