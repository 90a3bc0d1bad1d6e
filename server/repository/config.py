"""A model's configuration from text, and its defaults filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import text_format

from server.errors import StartupError
from server.repository.problem import Problem
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from pathlib import Path

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
MODEL_FILE = "model.onnx"
METADATA_KEY = "rnnserve.config"  # of the ONNX file's metadata_props
IDLE_US = 1_000_000  # the schema's own default


def read_text(path: Path) -> str:
    """The text of a configuration file; StartupError if it cannot be had."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: cannot be read: {_one_line(error)}") from None


def parse(text: str, source: str) -> ModelConfig:
    """Protobuf text as a message; StartupError names `source` and the line."""
    try:
        return text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        # the message begins with "line:column : ", which belongs to the file's name
        what = _one_line(error).split(" : ", 1)[-1]
        raise StartupError(f"{source}:{error.GetLine()}: {what}") from None


def fill_in(config: ModelConfig, directory: str) -> ModelConfig:
    """A copy with what is left out made explicit. Raises Problem where that contradicts."""
    filled = ModelConfig()
    filled.CopyFrom(config)
    for field, expected in (("name", directory), ("platform", PLATFORM), ("backend", BACKEND)):
        value = getattr(config, field)
        if value not in ("", expected):
            why = ", the directory's name" if field == "name" else ""
            raise Problem(f"{field}: {value!r}; expected {expected!r}{why}")
        setattr(filled, field, expected)
    if config.max_batch_size < 0:
        raise Problem(f"max_batch_size: {config.max_batch_size}; expected 0 or more")
    filled.default_model_filename = config.default_model_filename or MODEL_FILE
    if filled.version_policy.WhichOneof("policy_choice") is None:
        filled.version_policy.latest.num_versions = 1
    if config.HasField("sequence_batching"):
        sequences = filled.sequence_batching
        sequences.max_sequence_idle_microseconds = (
            sequences.max_sequence_idle_microseconds or IDLE_US
        )
    return filled


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
