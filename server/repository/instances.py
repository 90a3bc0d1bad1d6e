"""How many runs of a model may be under way at a time: what `instance_group` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.repository.problem import Problem

if TYPE_CHECKING:
    from server.stubs.inference.model_config_pb2 import ModelConfig

MOST = 256  # each has a thread, and rows of the arena for four batches


def instance_count(config: ModelConfig) -> int:
    """That of all groups together; a group that does not say it has one, and so has a model without
    groups. Raises Problem.
    """
    for group in config.instance_group:
        if group.count < 0:
            raise Problem(f"instance_group.count: {group.count}; expected at least 1")
    count = sum(group.count or 1 for group in config.instance_group) or 1
    if count > MOST:
        raise Problem(f"instance_group: {count} instances; expected at most {MOST}")
    return count
