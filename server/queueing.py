"""What a model's configuration says about its queue, as the scheduler keeps to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.core.queueing import Queueing, QueuePolicy

if TYPE_CHECKING:
    from server.repository.spec import ModelSpec


def queueing_of(spec: ModelSpec) -> Queueing | None:
    """None where `dynamic_batching` asks for nothing beyond what every model has: first come, first
    served, together with whoever waits.
    """
    said = spec.config.dynamic_batching
    rows = max(1, spec.max_batch_size)
    queueing = Queueing(
        levels=said.priority_levels,
        default_level=said.default_priority_level,
        default_policy=_policy(said.default_queue_policy),
        policies={level: _policy(each) for level, each in said.priority_queue_policy.items()},
        window_s=said.max_queue_delay_microseconds / 1e6,
        enough=min(said.preferred_batch_size, default=rows),
    )
    needed = queueing.levels > 1 or queueing.window_s or queueing.default_policy != QueuePolicy()
    return queueing if needed or queueing.policies else None


def _policy(said: Any) -> QueuePolicy:
    return QueuePolicy(
        max_waiting=said.max_queue_size,
        timeout_s=said.default_timeout_microseconds / 1e6,
        may_be_lowered=said.allow_timeout_override,
        delays=said.timeout_action == said.DELAY,
    )
