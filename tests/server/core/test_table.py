"""The table of sessions, by column."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from server.core.phases import Event, IllegalTransition, Phase
from server.core.session import Session
from server.core.table import CLOSED_SLOT, WIDE, Table
from server.errors import LimitReached


def opened(table: Table, **kwargs: Any) -> Session:
    return Session("s", SimpleNamespace(table=table), **kwargs)  # type: ignore[arg-type]


def test_a_session_has_a_place_of_its_own() -> None:
    table = Table(3)
    sessions = [opened(table, now_s=1.0, idle_ttl_s=2.0) for _ in range(3)]
    slots = [session.slot for session in sessions]
    assert len(set(slots)) == len(table) == 3
    assert CLOSED_SLOT not in slots
    assert [table.sessions[slot] for slot in slots] == sessions
    assert (sessions[0].last_used_s, sessions[0].idle_ttl_s) == (1.0, 2.0)
    assert repr(table) == "<Table 3 sessions>"


def test_a_column_and_its_elements_are_one() -> None:
    session = opened(table := Table(1))
    session.step = 5
    assert table.step[session.slot] == 5
    table.step[session.slot] = 6
    assert session.step == 6
    table.row[session.slot] = 3
    assert session.rows == (3,)


def test_there_is_room_for_one_that_will_be_refused_and_no_more() -> None:
    table = Table(2)
    sessions = [opened(table) for _ in range(3)]
    with pytest.raises(LimitReached, match="2 are open"):
        opened(table)
    sessions[0].leave_table()
    opened(table)


def test_who_leaves_is_closed_and_its_place_is_another_ones_in_a_new_generation() -> None:
    table = Table(1)
    old = opened(table, batch_size=2)
    slot, generation = old.slot, int(table.generation[old.slot])
    old.step, old.fresh, table.record[slot] = 7, False, 9
    assert table.aside[slot] == WIDE
    old.leave_table()
    assert (old.slot, old.phase, old.closed) == (CLOSED_SLOT, Phase.CLOSED, True)
    old.leave_table()  # again: nothing happens
    assert len(table) == 0
    new = opened(table)
    assert new.slot == slot
    assert table.generation[slot] == generation + 1
    assert (new.step, new.fresh, new.rows, new.phase) == (0, True, (0,), Phase.IDLE)
    assert (table.record[slot], table.aside[slot]) == (0, 0)


def test_an_event_moves_a_column_on_or_nobody() -> None:
    table = Table(3)
    slots = np.array([opened(table).slot for _ in range(3)])
    table.apply(slots[:2], Event.FRAME)
    assert table.phase[slots].tolist() == [Phase.FRAMED, Phase.FRAMED, Phase.IDLE]
    with pytest.raises(IllegalTransition, match="UNFRAME while IDLE"):
        table.apply(slots, Event.UNFRAME)
    assert table.phase[slots].tolist() == [Phase.FRAMED, Phase.FRAMED, Phase.IDLE]


def test_idle_too_long() -> None:
    table = Table(4)
    sessions = [opened(table, now_s=now_s, idle_ttl_s=5.0) for now_s in (0.0, 1.0, 2.0)]
    opened(table)  # lives for ever
    sessions[0].apply(Event.SUBMIT)
    assert table.idle_too_long(5.9).tolist() == []
    assert table.idle_too_long(6.0).tolist() == [sessions[1].slot]
    assert table.idle_too_long(1e9).tolist() == [sessions[1].slot, sessions[2].slot]
    sessions[1].leave_table()
    assert table.idle_too_long(1e9).tolist() == [sessions[2].slot]


def test_the_place_of_the_closed_is_never_idle() -> None:
    table = Table(1)
    assert table.idle_too_long(float("inf")).tolist() == []
    assert table.phase[CLOSED_SLOT] == Phase.CLOSED


def test_what_is_pending_for_a_session(core: Any) -> None:
    session = core.open(token="secret")
    assert session.token == "secret"
    assert core.scheduler.pending_of(session) == 0
    core.frame([session], [[1]])
    core.frame([session], [[1]])
    core.read(session)
    assert core.scheduler.pending_of(session) == 3
    core.begin()
    core.finish()
    core.begin()
    core.finish()
    assert core.scheduler.pending_of(session) == 1
    assert core.scheduler.has_answers
    core.run()
    assert core.scheduler.pending_of(session) == 0
    assert not core.scheduler.has_answers
