"""`sequence_batching`: whether what its strategy says holds together, as Triton has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.repository.problem import Problem

if TYPE_CHECKING:
    from server.stubs.inference.model_config_pb2 import ModelConfig

_SEQUENCES = "sequence_batching"


def check_strategy(config: ModelConfig) -> None:
    """Raises Problem. Rows are gathered at every step, so both strategies come to the same: what a
    configuration asks of them must make sense, and has no effect otherwise.
    """
    direct, oldest = config.sequence_batching.direct, config.sequence_batching.oldest
    if not 0 <= direct.minimum_slot_utilization <= 1:
        raise Problem(
            f"{_SEQUENCES}.direct.minimum_slot_utilization: {direct.minimum_slot_utilization:g};"
            " expected a number from 0 to 1"
        )
    if oldest.max_candidate_sequences < 0:
        raise Problem(
            f"{_SEQUENCES}.oldest.max_candidate_sequences: {oldest.max_candidate_sequences};"
            " expected 0 or more"
        )
    for size in oldest.preferred_batch_size:
        if not 1 <= size <= config.max_batch_size:
            raise Problem(
                f"{_SEQUENCES}.oldest.preferred_batch_size: {size}; expected 1 to max_batch_size,"
                f" which is {config.max_batch_size}"
            )
