"""`dynamic_batching`: whether what it says about the queue holds together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.repository.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server.stubs.inference.model_config_pb2 import ModelConfig

_BATCHING = "dynamic_batching"


def check_queueing(config: ModelConfig) -> None:
    """Raises Problem where values contradict each other or the model."""
    batching = config.dynamic_batching
    for size in batching.preferred_batch_size:
        if not 1 <= size <= config.max_batch_size:
            raise Problem(
                f"{_BATCHING}.preferred_batch_size: {size}; expected 1 to max_batch_size, which is "
                f"{config.max_batch_size}"
            )
    _check_levels(batching)
    if batching.preserve_ordering:
        _check_order(batching)


def _check_levels(batching: Any) -> None:
    levels, default = batching.priority_levels, batching.default_priority_level
    if not levels and default:
        raise Problem(
            f"{_BATCHING}.default_priority_level: {default}, but there are no priority_levels"
        )
    if levels and not 1 <= default <= levels:
        raise Problem(
            f"{_BATCHING}.default_priority_level: {default}; expected 1 to priority_levels, which "
            f"is {levels}"
        )
    for level in sorted(batching.priority_queue_policy):
        if not 1 <= level <= levels:
            raise Problem(
                f"{_BATCHING}.priority_queue_policy: of level {level}; there is "
                + (f"1 to {levels}" if levels else "none, because there are no priority_levels")
            )


def _check_order(batching: Any) -> None:
    """Nobody may be overtaken who wants answers in the order of requests."""
    if batching.priority_levels > 1:
        raise Problem(
            f"{_BATCHING}.preserve_ordering: true, but there are {batching.priority_levels} "
            "priority_levels; expected at most 1"
        )
    for name, policy in _policies(batching):
        if policy.timeout_action == policy.DELAY and policy.default_timeout_microseconds:
            raise Problem(
                f"{_BATCHING}.{name}.timeout_action: DELAY, but preserve_ordering is true; "
                "expected REJECT"
            )


def _policies(batching: Any) -> Iterator[tuple[str, Any]]:
    yield "default_queue_policy", batching.default_queue_policy
    for level, policy in sorted(batching.priority_queue_policy.items()):
        yield f"priority_queue_policy of level {level}", policy
