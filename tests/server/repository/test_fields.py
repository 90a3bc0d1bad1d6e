from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.protobuf import text_format

from server.repository.fields import READ, WITHOUT_EFFECT, check_fields
from server.repository.problem import Problem
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor


@pytest.mark.parametrize("path", sorted(READ | WITHOUT_EFFECT.keys()))
def test_the_tables_name_fields_of_the_schema(path: str) -> None:
    message: Descriptor | None = ModelConfig.DESCRIPTOR
    for name in path.split("."):
        assert message is not None
        message = message.fields_by_name[name].message_type


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('runtime: "python"', "runtime"),
        ("ensemble_scheduling { }", "ensemble_scheduling"),
        ("input { } input { allow_ragged_batch: true }", "input.allow_ragged_batch"),
        ("input { is_shape_tensor: true }", "input.is_shape_tensor"),
        ("input { is_non_linear_format_io: true }", "input.is_non_linear_format_io"),
        ("batch_input { }", "batch_input"),
        ("batch_output { }", "batch_output"),
        ("instance_group { passive: true }", "instance_group.passive"),
        ('cc_model_filenames { key: "7.5" value: "m" }', "cc_model_filenames"),
        ("model_operations { }", "model_operations"),
        (
            "model_transaction_policy { decoupled: true }",
            "model_transaction_policy.decoupled",
        ),
        ("model_repository_agents { }", "model_repository_agents"),
        ("sequence_batching { iterative_sequence: true }", "sequence_batching.iterative_sequence"),
        (
            "sequence_batching { state { use_growable_memory: true } }",
            "sequence_batching.state.use_growable_memory",
        ),
    ],
)
def test_what_would_change_results_is_refused_by_name(text: str, path: str) -> None:
    config = text_format.Parse(text, ModelConfig())
    with pytest.raises(Problem, match=f"^{path}: not supported"):
        check_fields(config)


def test_what_changes_no_result_is_accepted() -> None:
    text = """
        optimization { graph { level: 1 } cuda { graphs: true } }
        model_warmup { name: "w" batch_size: 1 }
        instance_group { name: "g" kind: KIND_CPU gpus: [ 0 ] rate_limiter { priority: 1 } }
        model_transaction_policy { decoupled: false }
        response_cache { enable: true }
        metric_tags { key: "k" value: "v" }
        input { format: FORMAT_NHWC }
        output { label_filename: "labels.txt" }
        sequence_batching { direct { max_queue_delay_microseconds: 5 } }
        parameters { key: "execution_mode" value { string_value: "0" } }
    """
    check_fields(text_format.Parse(text, ModelConfig()))
    check_fields(text_format.Parse("dynamic_batching { preserve_ordering: true }", ModelConfig()))
