"""A model's configuration from text, and its defaults filled in."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from server.errors import StartupError
from server.repository.problem import Problem
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
MODEL_FILE = "model.onnx"
RUNTIME = "libtriton_onnxruntime.so"  # what Triton would load
METADATA_KEY = "rnnserve.config"  # of the ONNX file's metadata_props
_TAG = re.compile("(?!__)[a-zA-Z_][a-zA-Z0-9_]*")  # what Prometheus takes as a label
_OWN_TAGS = ("model", "version", "process", "le")  # labels that metrics have anyway
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


def says_batch_size(text: str) -> bool:
    """Whether max_batch_size stands in a configuration that can be parsed, be it as 0."""
    return text_format.Parse(text, _with_presence()()).HasField("max_batch_size")


@cache
def _with_presence() -> type[Message]:
    """The schema, but that max_batch_size is optional: known apart when it is 0 or missing."""
    file, name = descriptor_pb2.FileDescriptorProto(), ModelConfig.DESCRIPTOR.full_name
    ModelConfig.DESCRIPTOR.file.CopyToProto(file)
    [message] = [m for m in file.message_type if m.name == ModelConfig.DESCRIPTOR.name]
    [field] = [field for field in message.field if field.name == "max_batch_size"]
    field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
    message.oneof_decl.add(name="_max_batch_size")  # how descriptors write an optional field
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


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
    if config.runtime not in ("", RUNTIME):
        raise Problem(f"runtime: {config.runtime!r}; expected none, or {RUNTIME!r}")
    if config.max_batch_size < 0:
        raise Problem(f"max_batch_size: {config.max_batch_size}; expected 0 or more")
    for tag in config.metric_tags:
        if not _TAG.fullmatch(tag) or tag in _OWN_TAGS:
            raise Problem(
                f"metric_tags: {tag!r}; expected a name of letters, digits and _ that is none of"
                f" {', '.join(_OWN_TAGS)}"
            )
    filled.default_model_filename = config.default_model_filename or MODEL_FILE
    if filled.version_policy.WhichOneof("policy_choice") is None:
        filled.version_policy.latest.num_versions = 1
    if not config.instance_group:
        filled.instance_group.add()
    for number, group in enumerate(filled.instance_group):
        group.name = group.name or f"{directory}_{number}"
        group.count = group.count or 1  # of KIND_AUTO if nothing is said: whoever runs it decides
    if config.HasField("sequence_batching"):
        sequences = filled.sequence_batching
        sequences.max_sequence_idle_microseconds = (
            sequences.max_sequence_idle_microseconds or IDLE_US
        )
    return filled


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
