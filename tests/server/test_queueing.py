"""From `dynamic_batching` to what the scheduler keeps to."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format

from server.core.queueing import Queueing, QueuePolicy
from server.queueing import queueing_of
from server.repository.spec import ModelSpec
from server.stubs.inference.model_config_pb2 import ModelConfig


def of(text: str, max_batch_size: int = 8) -> Queueing | None:
    config = text_format.Parse(text, ModelConfig(max_batch_size=max_batch_size))
    return queueing_of(
        ModelSpec(
            name="m",
            version=1,
            onnx_path=Path("model.onnx"),
            digest="0",
            max_batch_size=max_batch_size,
            inputs=(),
            outputs=(),
            states=(),
            constants=(),
            idle_s=1.0,
            may_be_cut=False,
            config=config,
        )
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sequence_batching { }",
        "dynamic_batching { }",
        "dynamic_batching { preferred_batch_size: [ 4 ] preserve_ordering: true }",
        "dynamic_batching { priority_levels: 1 default_priority_level: 1 }",
        "dynamic_batching { default_queue_policy { } }",
    ],
)
def test_who_asks_for_nothing_pays_for_nothing(text: str) -> None:
    assert of(text) is None


def test_levels_and_their_policies() -> None:
    queueing = of(
        """
        dynamic_batching {
          priority_levels: 3
          default_priority_level: 2
          default_queue_policy { max_queue_size: 7 }
          priority_queue_policy {
            key: 1
            value {
              timeout_action: DELAY
              default_timeout_microseconds: 1500
              allow_timeout_override: true
            }
          }
        }
        """
    )
    assert queueing == Queueing(
        levels=3,
        default_level=2,
        default_policy=QueuePolicy(max_waiting=7),
        policies={1: QueuePolicy(timeout_s=0.0015, may_be_lowered=True, delays=True)},
        enough=8,
    )


@pytest.mark.parametrize(
    ("text", "max_batch_size", "enough"),
    [
        ("", 8, 8),
        ("preferred_batch_size: [ 6, 4 ]", 8, 4),
        ("", 0, 1),
    ],
)
def test_the_window_closes_at_the_smallest_preferred_size(
    text: str, max_batch_size: int, enough: int
) -> None:
    batching = f"dynamic_batching {{ max_queue_delay_microseconds: 200 {text} }}"
    assert of(batching, max_batch_size) == Queueing(window_s=0.0002, enough=enough)


def test_a_policy_for_all_needs_no_levels() -> None:
    queueing = of("dynamic_batching { default_queue_policy { max_queue_size: 2 } }")
    assert queueing is not None
    assert queueing.policy_of(queueing.level_of(5)) == QueuePolicy(max_waiting=2)
