"""Our Open Inference messages are those that `tritonclient` has compiled in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = ("grpc_service_pb2", "model_config_pb2")
THEIRS = ("tritonclient.grpc.service_pb2", "tritonclient.grpc.model_config_pb2")


@pytest.fixture
def both(script: Callable[..., Any]) -> Any:
    """Per file, ours and theirs."""
    ours = [f"server.stubs.inference.{name}" for name in FILES]
    with (
        script("describe_protocol.py", *ours) as one,
        script("describe_protocol.py", *THEIRS) as two,
    ):
        parties = [json.loads(process.communicate(timeout=60)[0]) for process in (one, two)]
    return dict(zip(FILES, zip(*parties, strict=True), strict=True))


def names(messages: dict[str, Any]) -> int:
    """How many messages there are at any depth."""
    return sum(1 + names(message["messages"]) for message in messages.values())


def test_every_message_field_enum_and_method_is_the_same(both: Any) -> None:
    assert names(both["grpc_service_pb2"][0]["messages"]) > 50
    assert names(both["model_config_pb2"][0]["messages"]) > 30
    for ours, theirs in both.values():
        for kind in ("messages", "enums", "services"):
            assert ours[kind].keys() == theirs[kind].keys()
            for name, described in theirs[kind].items():
                assert ours[kind][name] == described, name
        assert ours == theirs
