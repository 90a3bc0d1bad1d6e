"""How a group begins: with new sessions, or with some that are there already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rnnserve._calls import resume_key
from rnnserve._start import Start, start
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class GroupStart:
    """Sessions to be opened, alike."""

    begins: Start
    count: int

    def request(self) -> pb.OpenManyRequest:
        return pb.OpenManyRequest(open=self.begins.complete(), count=self.count)


def group_start(
    model: str, count: int, version: str, idle_ttl_s: float | None, constants: object
) -> GroupStart:
    """Raises ValueError or TypeError for what cannot be right."""
    if count < 1:
        raise ValueError(f"count: expected 1 or more, given {count}")
    begins = start(
        model=model,
        version=version,
        batch_size=1,
        session_id="",
        idle_ttl_s=idle_ttl_s,
        initial_state=None,
        constants=constants,
        states_of=None,
    )
    return GroupStart(begins, count)


def group_keys(keys: Iterable[Sequence[str]]) -> tuple[pb.SessionKey, ...]:
    """Sessions to be taken up, from pairs of id and token; ValueError without any."""
    made = tuple(resume_key(session_id, token) for session_id, token in keys)
    if not made:
        raise ValueError("keys: expected at least one pair of id and token")
    return made
