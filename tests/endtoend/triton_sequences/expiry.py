"""Sequences that nobody asks for any more. "brief" ends them after a second without a request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.endtoend.triton_sequences.talk import add, no_start, refusal, request, stream

if TYPE_CHECKING:
    from collections.abc import Callable

EXPIRED = "; it has expired after 1 s without a request"


@pytest.fixture
def brief(client: Any) -> Callable[..., Any]:
    def step(x: int, sequence: int | str, flags: str = "") -> Any:
        return add(client, x, sequence, flags, model="brief")

    return step


def wait_until_gone(sessions: Callable[[], float]) -> None:
    give_up_s = time.monotonic() + 30
    while sessions():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_the_reason_is_told(
    brief: Any, address: str, new_id: Callable[[], int], sessions: Callable[[], float]
) -> None:
    ids: list[int | str] = [new_id(), f"brief {new_id()}"]
    for id in ids:
        assert brief(1, id, "start") == 1
    wait_until_gone(sessions)
    for id in ids:
        for flags in ("", "end"):
            code, text = refusal(brief, 2, id, flags)
            assert (code, text) == ("INVALID_ARGUMENT", no_start(id, "brief") + EXPIRED)
    with stream(address) as (own, answers):
        own.async_stream_infer(**request("brief", 2, ids[0]))
        assert answers.next().message() == no_start(ids[0], "brief") + EXPIRED
    assert [brief(x, ids[0], flags) for x, flags in ((5, "start"), (6, "end"))] == [5, 11]
    assert refusal(brief, 2, ids[0])[1] == no_start(ids[0], "brief")  # ended, not expired


def test_who_goes_on_is_not_idle(
    brief: Any, new_id: Callable[[], int], sessions: Callable[[], float]
) -> None:
    """Every request counts, unless it is refused."""
    kept, left, refused = new_id(), new_id(), new_id()
    for id in (kept, left, refused):
        brief(1, id, "start")
    total = 1
    while sessions() > 1:
        total += 1
        assert brief(1, kept) == total
        assert "unexpected shape" in refusal(brief, np.ones((1, 2), np.int32), refused)[1]
        time.sleep(0.02)
    assert brief(1, kept, "end") == total + 1
    for id in (left, refused):
        assert refusal(brief, 1, id)[1] == no_start(id, "brief") + EXPIRED
