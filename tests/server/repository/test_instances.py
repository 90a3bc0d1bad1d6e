from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.protobuf import text_format

from server.repository.instances import instance_count
from server.repository.load import load
from server.repository.problem import Problem
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from tests.server.conftest import LstmModel, MakeModel


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("instance_group { }", 1),
        ("instance_group { count: 3 kind: KIND_CPU }", 3),
        ("instance_group { } instance_group { }", 2),
        ("instance_group { count: 2 } instance_group { kind: KIND_CPU }", 3),
        ("instance_group { count: 256 }", 256),
    ],
)
def test_the_counts_of_all_groups_add_up(text: str, count: int) -> None:
    assert instance_count(text_format.Parse(text, ModelConfig())) == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("instance_group { count: -1 }", r"instance_group.count: -1; expected at least 1"),
        (
            "instance_group { count: 2 } instance_group { count: 255 }",
            r"instance_group: 257 instances; expected at most 256",
        ),
    ],
)
def test_counts_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(Problem, match=f"^{message}$"):
        instance_count(text_format.Parse(text, ModelConfig()))


def test_a_model_knows_its_count_and_its_configuration_says_what_was_said(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    text = 'instance_group [ { name: "a" count: 2 kind: KIND_CPU }, { kind: KIND_CPU } ]\n'
    [spec] = load(make_model("lstm", lstm_config + text, lstm_model()))
    assert spec.instances == 3
    groups = [(group.name, group.count) for group in spec.config.instance_group]
    assert groups == [("a", 2), ("lstm_1", 1)]
