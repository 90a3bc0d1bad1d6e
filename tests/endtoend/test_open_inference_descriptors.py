"""Our Open Inference messages and calls are those that `tritonclient` has compiled in."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.endtoend.describe_protocol import described, facts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor_pb2 import (
        DescriptorProto,
        FieldDescriptorProto,
        FileDescriptorProto,
    )

PROTO = Path(__file__).parents[2] / "proto" / "inference"
WRITTEN = {"message": "message", "enum": "enum", "service": "service", "rpc": "method"}
OURS = {
    "grpc_service": "server.stubs.inference.grpc_service_pb2",
    "model_config": "server.stubs.inference.model_config_pb2",
}
THEIRS = {
    "grpc_service": "tritonclient.grpc.service_pb2",
    "model_config": "tritonclient.grpc.model_config_pb2",
}


@pytest.fixture
def told(script: Callable[..., Any]) -> Callable[[str], list[str]]:
    """The facts of a module, told by a process of its own."""

    def tell(module: str) -> list[str]:
        with script("describe_protocol.py", module) as process:
            facts: list[str] = process.communicate(timeout=60)[0].splitlines()
        assert process.returncode == 0
        return facts

    return tell


def differences(ours: list[str], theirs: list[str]) -> list[str]:
    """In both directions, a line each."""
    return sorted(
        [f"only ours: {fact}" for fact in set(ours) - set(theirs)]
        + [f"only tritonclient's: {fact}" for fact in set(theirs) - set(ours)]
    )


@pytest.mark.parametrize("name", OURS)
def test_every_message_field_enum_and_method_is_the_same(name: str, told: Any) -> None:
    ours, theirs = told(OURS[name]), told(THEIRS[name])
    differing = differences(ours, theirs)
    assert not differing, "\n" + "\n".join(differing)
    assert Counter(ours) == Counter(theirs)


@pytest.mark.parametrize("name", OURS)
def test_none_is_overlooked(name: str) -> None:
    """There are as many as one counts in the source; a map is a message of two fields."""
    source = (PROTO / f"{name}.proto").read_text(encoding="utf-8")
    code = re.sub(r"//.*", "", source)
    count = {kind: len(re.findall(rf"^\s*{kind} \w+", code, re.MULTILINE)) for kind in WRITTEN}
    maps, numbers = len(re.findall(r"\bmap<", code)), len(re.findall(r"= \d+;", code))
    told = Counter(fact.partition(" ")[0] for fact in facts_of(described(OURS[name])))
    assert {kind: told[WRITTEN[kind]] for kind in WRITTEN} == count
    assert (told["map"], told["field"] + told["value"]) == (maps, numbers + 2 * maps)
    assert told["method"] in (20, 0)


def request(file: FileDescriptorProto) -> DescriptorProto:
    return next(message for message in file.message_type if message.name == "ModelInferRequest")


def parameter(file: FileDescriptorProto) -> FieldDescriptorProto:
    (message,) = (message for message in file.message_type if message.name == "InferParameter")
    return message.field[0]


CHANGES: dict[str, Callable[[FileDescriptorProto], Any]] = {
    "package": lambda file: setattr(file, "package", "other"),
    "syntax": lambda file: setattr(file, "syntax", "proto2"),
    "a message less": lambda file: file.message_type.pop(),
    "a message more": lambda file: file.message_type.add(name="New"),
    "its name": lambda file: setattr(request(file), "name", "Request"),
    "a field less": lambda file: request(file).field.pop(),
    "a field's name": lambda file: setattr(request(file).field[0], "name", "model"),
    "a field's number": lambda file: setattr(request(file).field[0], "number", 99),
    "a field's type": lambda file: setattr(request(file).field[0], "type", 12),
    "a field's label": lambda file: setattr(request(file).field[0], "label", 3),
    "a field's message": lambda file: setattr(request(file).field[4], "type_name", ".inference.X"),
    "presence": lambda file: setattr(request(file).field[0], "proto3_optional", True),
    "packing": lambda file: setattr(request(file).nested_type[0].field[2].options, "packed", False),
    "out of its oneof": lambda file: parameter(file).ClearField("oneof_index"),
    "a oneof's name": lambda file: [
        setattr(message.oneof_decl[0], "name", "choice")
        for message in file.message_type
        if message.oneof_decl
    ],
    "a map no more": lambda file: [
        nested.ClearField("options") for nested in request(file).nested_type
    ],
    "a nested message less": lambda file: request(file).nested_type.pop(0),
    "a reserved number": lambda file: request(file).reserved_range.add(start=50, end=51),
    "a call less": lambda file: file.service[0].method.pop(),
    "a call's name": lambda file: setattr(file.service[0].method[0], "name", "Live"),
    "a call's question": lambda file: setattr(file.service[0].method[0], "input_type", ".X"),
    "a call's answer": lambda file: setattr(file.service[0].method[0], "output_type", ".X"),
    "streaming in": lambda file: setattr(file.service[0].method[0], "client_streaming", True),
    "streaming out": lambda file: setattr(file.service[0].method[0], "server_streaming", True),
}
ENUM_CHANGES: dict[str, Callable[[FileDescriptorProto], Any]] = {
    "an enum less": lambda file: file.enum_type.pop(),
    "its name": lambda file: setattr(file.enum_type[0], "name", "Type"),
    "a value less": lambda file: file.enum_type[0].value.pop(),
    "a value's name": lambda file: setattr(file.enum_type[0].value[1], "name", "TYPE_BIT"),
    "a value's number": lambda file: setattr(file.enum_type[0].value[1], "number", 77),
}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(pytest.param("grpc_service", change, id=id) for id, change in CHANGES.items()),
        *(pytest.param("model_config", change, id=id) for id, change in ENUM_CHANGES.items()),
    ],
)
def test_a_difference_would_be_told(
    name: str, change: Callable[[FileDescriptorProto], Any]
) -> None:
    original = described(OURS[name])
    changed = described(OURS[name])
    change(changed)
    assert differences(facts_of(original), facts_of(changed))
