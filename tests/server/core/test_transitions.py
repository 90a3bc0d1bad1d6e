"""The table of a session's phases, read aloud."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from server.core.phases import TRANSITIONS, Event, IllegalTransition, Phase, after_each
from server.core.session import Session
from server.core.table import Table

CLOSED, IDLE, QUEUED, RUNNING, FRAMED, CLOSING = Phase
SUBMIT, WITHDRAW, DISPATCH, COMPLETE, FRAME, UNFRAME, CLOSE = Event

LEGAL = [
    (IDLE, SUBMIT, QUEUED),
    (IDLE, FRAME, FRAMED),
    (IDLE, CLOSE, CLOSED),
    (QUEUED, WITHDRAW, IDLE),
    (QUEUED, DISPATCH, RUNNING),
    (QUEUED, CLOSE, CLOSED),
    (RUNNING, COMPLETE, IDLE),
    (RUNNING, CLOSE, CLOSING),
    (FRAMED, UNFRAME, IDLE),
    (FRAMED, CLOSE, CLOSING),
    (CLOSING, COMPLETE, CLOSED),
    (CLOSING, UNFRAME, CLOSED),
]
ILLEGAL = [pair for pair in product(Phase, Event) if pair not in {row[:2] for row in LEGAL}]


def in_phase(phase: Phase) -> Session:
    session = alone()
    session.table.phase[session.slot] = phase
    return session


def alone(**kwargs: Any) -> Session:
    return Session("s", cast("Any", SimpleNamespace(table=Table(1))), **kwargs)


def test_the_table_holds_these_and_no_others() -> None:
    assert {(phase, event): after for phase, event, after in LEGAL} == TRANSITIONS
    assert len(ILLEGAL) == len(Phase) * len(Event) - len(LEGAL)


@pytest.mark.parametrize(("phase", "event", "after"), LEGAL)
def test_a_legal_event_moves_on(phase: Phase, event: Event, after: Phase) -> None:
    session = in_phase(phase)
    session.apply(event)
    assert session.phase is after


@pytest.mark.parametrize(("phase", "event"), ILLEGAL)
def test_an_illegal_event_raises_and_moves_nothing(phase: Phase, event: Event) -> None:
    session = in_phase(phase)
    with pytest.raises(IllegalTransition, match=f"{event.name} in <Session 's' {phase.name}"):
        session.apply(event)
    assert session.phase is phase


@pytest.mark.parametrize("event", Event)
def test_a_column_of_phases_goes_by_the_same_table(event: Event) -> None:
    before = [phase for phase in Phase if (phase, event) in TRANSITIONS]
    after = after_each(np.array(before, np.uint8), event)
    assert after.tolist() == [TRANSITIONS[phase, event] for phase in before]


@pytest.mark.parametrize(("phase", "event"), ILLEGAL)
def test_one_illegal_event_in_a_column_raises(phase: Phase, event: Event) -> None:
    legal = next(phase for phase in Phase if (phase, event) in TRANSITIONS)
    with pytest.raises(IllegalTransition, match=f"{event.name} while {phase.name}"):
        after_each(np.array([legal, phase, legal], np.uint8), event)


@pytest.mark.parametrize("phase", Phase)
def test_closed_is_said_of_closing_and_closed(phase: Phase) -> None:
    assert in_phase(phase).closed == (phase in {CLOSING, CLOSED})
    assert in_phase(phase).ending == (phase in {CLOSING, CLOSED})


def test_a_session_without_a_request_has_no_first_one() -> None:
    with pytest.raises(AssertionError, match="nothing pending"):
        _ = in_phase(IDLE).first


def test_a_session_that_nobody_used_reads_the_initial_row() -> None:
    assert alone(batch_size=3).rows == (0, 0, 0)
