"""The sessions that live: ids, tokens, and the end of those that nobody uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from server.core import sessions as module
from server.core.phases import Phase
from server.errors import LimitReached, SessionExists, SessionExpired, SessionNotFound, StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    Core = Any  # of driven.py


def expire(core: Core, now_s: float) -> list[Any]:
    core.now_s = now_s
    expired: list[Any] = core.sessions.expire(now_s)
    core.check()
    return expired


def test_a_session_is_found_by_its_id_and_token(core: Core) -> None:
    ada, bob = core.open("ada", token="secret"), core.open("bob")
    assert core.sessions.get("ada", "secret") is ada
    assert core.sessions.get("bob") is core.sessions.find("bob") is bob
    assert list(core.sessions) == [ada, bob]
    assert len(core.sessions) == 2


@pytest.mark.parametrize("token", ["", "Secret", "sécret", "secret "])
def test_without_its_token_a_session_is_as_good_as_none(core: Core, token: str) -> None:
    core.open("ada", token="secret")
    with pytest.raises(SessionNotFound) as wrong_token:
        core.sessions.get("ada", token)
    core.close(core.sessions.find("ada"))
    with pytest.raises(SessionNotFound) as no_session:
        core.sessions.get("ada", token)
    assert str(wrong_token.value) == str(no_session.value)


def test_an_id_is_taken_while_its_session_lives(core: Core) -> None:
    session = core.open("ada")
    with pytest.raises(SessionExists, match="'ada' exists"):
        core.open("ada")
    core.close(session)
    core.open("ada")


def test_a_refused_session_takes_no_rows(core: Core) -> None:
    core.open("ada")
    for _ in range(40):
        with pytest.raises(SessionExists):
            core.open("ada")
    core.check()


def test_an_id_is_free_again_once_its_session_is_about_to_close(core: Core) -> None:
    old = core.open("ada")
    step = core.step(old, [1], end=True)
    new = core.open("ada")
    other = core.step(new, [2])
    assert core.sessions.find("ada") is new
    core.run()
    assert (core.result(step).step, core.result(other).step) == (1, 1)
    assert core.closed == [old]
    assert core.sessions.find("ada") is new  # the old one took only itself away


def test_there_are_at_most_max_sessions(make_core: Callable[..., Core]) -> None:
    core = make_core(max_sessions=2)
    first = core.open("a")
    core.open("b")
    with pytest.raises(LimitReached, match="2 sessions are open"):
        core.open("c")
    core.close(first)
    core.open("c")


def test_a_replacement_is_no_further_session(make_core: Callable[..., Core]) -> None:
    core = make_core(max_sessions=1)
    old = core.open("a")
    core.step(old, [1], end=True)
    core.open("a")
    core.run()
    assert len(core.sessions) == 1


def test_a_session_without_rows_for_it_is_not_listed(make_core: Callable[..., Core]) -> None:
    core = make_core(max_rows=3)
    with pytest.raises(LimitReached, match="no room"):
        core.open("wide", batch_size=4)
    assert core.sessions.find("wide") is None
    core.open("fits", batch_size=3)


def test_idle_sessions_expire_and_their_owners_are_told(core: Core) -> None:
    session = core.open("ada", idle_ttl_s=10.0, token="secret")
    assert expire(core, 9.9) == []
    assert expire(core, 10.0) == [session]
    assert session.phase is Phase.CLOSED
    assert core.closed == [session]
    with pytest.raises(SessionExpired, match="'ada' has expired after 10 s"):
        core.sessions.get("ada", "secret")
    with pytest.raises(SessionNotFound):
        core.sessions.get("ada", "other")
    assert core.sessions.why_gone("ada") == "has expired after 10 s without a request"
    assert core.sessions.why_gone("bob") == ""
    assert expire(core, 1e6) == []


def test_a_new_session_of_the_id_lets_the_expired_one_be_forgotten(core: Core) -> None:
    core.open("ada", idle_ttl_s=1.0, token="old")
    expire(core, 5.0)
    core.close(core.open("ada", token="new"))
    for token in ("old", "new"):
        with pytest.raises(SessionNotFound):
            core.sessions.get("ada", token)


def test_use_puts_the_end_off_by_exactly_the_time_to_live(core: Core) -> None:
    session = core.open(idle_ttl_s=10.0)
    core.now_s = 0.5
    core.step(session, [1])
    core.run()
    assert expire(core, 10.0) == []
    assert expire(core, 10.4) == []
    assert expire(core, 10.5) == [session]


@pytest.mark.parametrize("running", [False, True])
def test_a_session_at_work_does_not_expire(core: Core, running: bool) -> None:
    session = core.open(idle_ttl_s=10.0)
    step = core.step(session, [1])
    if running:
        core.begin()
    for now_s in (10.0, 25.0, 60.0):
        assert expire(core, now_s) == []
    core.run()
    assert core.result(step).step == 1
    assert expire(core, 69.9) == []
    assert expire(core, 80.0) == [session]


def test_a_time_to_live_too_short_to_add_up_holds_nobody(core: Core) -> None:
    session = core.open(idle_ttl_s=1e-12)
    core.now_s = 1e6
    core.step(session, [1])
    assert expire(core, 1e6) == []
    core.run()
    assert expire(core, 1e6 + 1) == [session]


def test_sessions_without_a_time_to_live_stay(core: Core) -> None:
    core.open()
    assert expire(core, 1e12) == []


def test_sessions_expire_in_any_order(core: Core) -> None:
    ttls = [5.0, 3.0, 9.0, 3.0, 7.0, 1.0]
    sessions = [core.open(idle_ttl_s=ttl) for ttl in ttls]
    ended = []
    for second in range(1, 11):
        ended += [(sessions.index(session), second) for session in expire(core, second)]
    assert sorted(ended) == [(n, int(ttl)) for n, ttl in enumerate(ttls)]


def test_closed_sessions_are_let_go_long_before_they_would_expire(core: Core) -> None:
    stays = core.open(idle_ttl_s=1e9)
    for _ in range(5000):
        core.close(core.open(idle_ttl_s=1e9))
        core.everyone = [stays]
    assert len(core.table.sessions) <= 4
    assert expire(core, 2e9) == [stays]


def test_the_oldest_of_too_many_expired_ones_are_forgotten(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TOMBSTONES", 3)
    for n in range(5):
        core.open(n, idle_ttl_s=1.0)
        expire(core, 10.0 * (n + 1))
    assert [bool(core.sessions.why_gone(n)) for n in range(5)] == [False, False, True, True, True]


def test_a_replaced_session_whose_end_fails_is_closed_all_the_same(core: Core) -> None:
    old = core.open("ada", idle_ttl_s=10.0)
    core.step(old, [1], end=True)
    core.end(old)
    new = core.open("ada", idle_ttl_s=1000.0)
    core.run(lambda job: StepFailed("no"))
    assert core.closed == [old]
    assert expire(core, 100.0) == []
    assert core.sessions.get("ada") is new
