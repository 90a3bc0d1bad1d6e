"""`dynamic_batching` that cannot be meant is refused when the model is loaded, field by field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from server.errors import StartupError
from server.repository.fields import check_fields
from server.repository.load import load
from server.repository.problem import Problem
from server.repository.queueing import check_queueing
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from tests.server.conftest import MakeModel

LEVELS = "priority_levels: 2 default_priority_level: 1"
DELAYS = "{ timeout_action: DELAY default_timeout_microseconds: 5 }"


def parse(batching: str) -> ModelConfig:
    text = f"max_batch_size: 8 dynamic_batching {{ {batching} }}"
    return text_format.Parse(text, ModelConfig())


@pytest.mark.parametrize(
    ("batching", "problem"),
    [
        ("preferred_batch_size: [ 4, 0 ]", "preferred_batch_size: 0; expected 1 to max_batch_size"),
        ("preferred_batch_size: [ -1 ]", "preferred_batch_size: -1; expected 1 to max_batch_size"),
        ("preferred_batch_size: [ 9 ]", "preferred_batch_size: 9; expected 1 to max_batch_size"),
        (
            "default_priority_level: 1",
            "default_priority_level: 1, but there are no priority_levels",
        ),
        (
            "priority_levels: 2",
            "default_priority_level: 0; expected 1 to priority_levels, which is 2",
        ),
        (
            "priority_levels: 2 default_priority_level: 3",
            "default_priority_level: 3; expected 1 to priority_levels, which is 2",
        ),
        (
            "priority_queue_policy { key: 1 value { } }",
            "priority_queue_policy: of level 1; there is none, because there are no priority_lev",
        ),
        (
            LEVELS + " priority_queue_policy { key: 0 value { } }",
            "priority_queue_policy: of level 0; there is 1 to 2",
        ),
        (
            LEVELS + " priority_queue_policy { key: 3 value { } }",
            "priority_queue_policy: of level 3; there is 1 to 2",
        ),
        (
            "preserve_ordering: true " + LEVELS,
            "preserve_ordering: true, but there are 2 priority_levels; expected at most 1",
        ),
        (
            f"preserve_ordering: true default_queue_policy {DELAYS}",
            "default_queue_policy.timeout_action: DELAY, but preserve_ordering is true",
        ),
        (
            "preserve_ordering: true priority_levels: 1 default_priority_level: 1 "
            f"priority_queue_policy {{ key: 1 value {DELAYS} }}",
            "priority_queue_policy of level 1.timeout_action: DELAY, but preserve_ordering is true",
        ),
    ],
)
def test_what_contradicts_is_refused_by_name(batching: str, problem: str) -> None:
    config = parse(batching)
    check_fields(config)
    with pytest.raises(Problem, match=re.escape(f"dynamic_batching.{problem}")):
        check_queueing(config)


@pytest.mark.parametrize(
    "batching",
    [
        "",
        "preferred_batch_size: [ 1, 8 ] max_queue_delay_microseconds: 100",
        "preserve_ordering: true default_queue_policy { timeout_action: DELAY }",
        f"{LEVELS} default_queue_policy {DELAYS} priority_queue_policy {{ key: 2 value {DELAYS} }}",
    ],
)
def test_what_holds_together_is_accepted(batching: str) -> None:
    config = parse(batching)
    check_fields(config)
    check_queueing(config)


def test_numbers_below_zero_are_no_numbers_for_the_schema() -> None:
    for field in (
        "max_queue_delay_microseconds: -1",
        "default_queue_policy { max_queue_size: -1 }",
    ):
        with pytest.raises(text_format.ParseError):
            parse(field)


def test_the_file_is_named(make_model: MakeModel) -> None:
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "y")
    )
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    config = "max_batch_size: 8 dynamic_batching { priority_levels: 2 %s }"
    [spec] = load(make_model("same", config % "default_priority_level: 2", model))
    assert spec.config.dynamic_batching.default_priority_level == 2
    with pytest.raises(StartupError, match=r"config\.pbtxt: dynamic_batching\.default_priority"):
        load(make_model("other", config % "", model))
