"""`output.label_filename`: names of classes, one a line, by the index of an output's element."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from server.repository.problem import Problem

if TYPE_CHECKING:
    from pathlib import Path


def read_labels(filename: str, model_dir: Path, label: str) -> tuple[str, ...]:
    """The lines of `<model>/<filename>`, beside the versions, as Triton has them; none for "".
    Raises Problem, which begins with `label`.
    """
    if not filename:
        return ()
    named = PurePosixPath(filename)
    if named.is_absolute() or ".." in named.parts:
        raise Problem(f"{label}: label_filename {filename!r}; expected a file in {model_dir}")
    path = model_dir / named
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Problem(f"{label}: label_filename {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Problem(f"{label}: label_filename {path}: {error}; expected UTF-8") from None
    return tuple(line.rstrip("\r") for line in text.removesuffix("\n").split("\n")) if text else ()
