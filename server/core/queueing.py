"""How the requests of a model queue: which go first, how many may wait, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Of one priority level. `max_waiting`: requests that may wait, 0 for any number; `timeout_s`:
    how long each may wait, 0 for ever. A request may ask for less if that `may_be_lowered`. Who has
    waited for longer is refused or, where the policy `delays`, goes behind all of its level who
    have not.
    """

    max_waiting: int = 0
    timeout_s: float = 0.0
    may_be_lowered: bool = False
    delays: bool = False

    def timeout_of(self, asked_s: float) -> float:
        """Of a request that asks for `asked_s`, 0 if it does not. Where there is no limit, there is
        none to lower.
        """
        return asked_s if self.may_be_lowered and 0 < asked_s < self.timeout_s else self.timeout_s


@dataclass(frozen=True, slots=True)
class Queueing:
    """Levels count from 1, which goes first; without any, everybody is in level 0. An idle engine
    gives a request `window_s` seconds for others to join it, unless so many rows wait that there
    are `enough`.
    """

    levels: int = 0
    default_level: int = 0
    default_policy: QueuePolicy = QueuePolicy()
    policies: Mapping[int, QueuePolicy] = field(default_factory=dict)  # by level
    window_s: float = 0.0
    enough: int = 1

    def level_of(self, asked: int) -> int:
        """Of a request that asks for this one: the default where there is no such level."""
        return asked if 0 < asked <= self.levels else self.default_level

    def policy_of(self, level: int) -> QueuePolicy:
        return self.policies.get(level, self.default_policy)
