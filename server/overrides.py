"""A model directory made of what a load request brings with it."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf import json_format, text_format

from server.errors import InvalidRequest
from server.repository.scan import CONFIG
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BATCH_SIZE = {"max_batch_size", "maxBatchSize"}  # both are JSON for it


class Override(NamedTuple):
    """`config` is a model configuration as JSON. `files`, by their path in the model directory,
    take the place of everything that is in it.
    """

    config: str
    files: Mapping[str, bytes] = {}


@contextmanager
def overridden(directory: Path, override: Override) -> Iterator[Path]:
    """A directory of the same name as `directory` for as long as it is needed. Raises
    InvalidRequest.
    """
    text = _as_text(override.config)
    with tempfile.TemporaryDirectory(prefix="rnnserve-model-") as folder:
        made = Path(folder) / directory.name
        made.mkdir()
        if override.files:
            for path, content in override.files.items():
                _write(made, path, content)
        elif directory.is_dir():
            for entry in directory.iterdir():
                if entry.name != CONFIG:
                    (made / entry.name).symlink_to(entry.absolute())
        (made / CONFIG).write_text(text, encoding="utf-8")
        yield made


def _as_text(config: str) -> str:
    try:
        parsed = json_format.Parse(config, ModelConfig())
    except json_format.ParseError as error:
        reason = " ".join(str(error).split())
        raise InvalidRequest(f"parameter 'config' is no model configuration: {reason}") from None
    said = json.loads(config)
    if not isinstance(said, dict):  # the parser takes what has nothing in it for a message
        raise InvalidRequest(
            f"parameter 'config' is no model configuration: {config}; expected {{}}"
        )
    text = text_format.MessageToString(parsed)
    # a batch size of 0 that is said is not one that is left out
    said_0 = not parsed.max_batch_size and not _BATCH_SIZE.isdisjoint(said)
    return f"{text}max_batch_size: 0\n" if said_0 else text


def _write(directory: Path, name: str, content: bytes) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
        raise InvalidRequest(
            f"parameter 'file:{name}': expected a path inside the model directory, such as "
            "file:1/model.onnx"
        )
    file = directory / path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise InvalidRequest(f"parameter 'file:{name}': {error.strerror}") from None
