"""Prints what modules' protobuf descriptors say: one fact a line, in order.

python describe_protocol.py MODULE…   (two files that declare one package cannot be loaded in one
process, so each party is described in a process of its own)
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LABELS = {1: "", 2: "required ", 3: "repeated "}


def facts_of(file: FileDescriptorProto) -> list[str]:
    """Everything that decides what bytes mean and which calls there are: not comments, options of
    other languages, nor the order in which things are declared.
    """
    return sorted([f"file is {file.syntax} of package {file.package}", *_all(file)])


def _all(file: FileDescriptorProto) -> Iterator[str]:
    yield from _messages(file.package, file.message_type)
    yield from _enums(file.package, file.enum_type)
    for service in file.service:
        yield from _methods(f"{file.package}.{service.name}", service)


def _messages(scope: str, messages: Iterable[DescriptorProto]) -> Iterator[str]:
    for message in messages:
        name = f"{scope}.{message.name}"
        yield f"{'map entry' if message.options.map_entry else 'message'} {name}"
        for field in message.field:
            yield f"field {name}.{_field(message, field)}"
        yield from (f"reserved {name}: {r.start} to {r.end}" for r in message.reserved_range)
        yield from (f"reserved {name}: {reserved}" for reserved in message.reserved_name)
        yield from _messages(name, message.nested_type)
        yield from _enums(name, message.enum_type)


def _field(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    kind = field.type_name or FieldDescriptorProto.Type.Name(field.type)[len("TYPE_") :].lower()
    said = f"{field.name} = {field.number}: {LABELS[field.label]}{kind}"
    if field.HasField("oneof_index"):
        said += f" in oneof {message.oneof_decl[field.oneof_index].name}"
    if field.options.HasField("packed"):
        said += f" packed {field.options.packed}"
    return said + (" (optional)" if field.proto3_optional else "")


def _enums(scope: str, enums: Iterable[EnumDescriptorProto]) -> Iterator[str]:
    for enum in enums:
        yield f"enum {scope}.{enum.name}"
        yield from (f"value {scope}.{enum.name}.{v.name} = {v.number}" for v in enum.value)


def _methods(scope: str, service: ServiceDescriptorProto) -> Iterator[str]:
    yield f"service {scope}"
    for method in service.method:
        asks = ("stream " if method.client_streaming else "") + method.input_type
        answers = ("stream " if method.server_streaming else "") + method.output_type
        yield f"method {scope}.{method.name}: {asks} -> {answers}"


def described(module: str) -> FileDescriptorProto:
    file = FileDescriptorProto()
    importlib.import_module(module).DESCRIPTOR.CopyToProto(file)
    return file


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(*facts_of(described(argument)), sep="\n")
