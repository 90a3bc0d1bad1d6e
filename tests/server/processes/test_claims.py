"""Who holds which id: one process at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from server.errors import LimitReached
from server.processes.claims import Claims, forget_claims, private_directory
from server.rpc.sequences import SequenceId

if TYPE_CHECKING:
    from pathlib import Path

IDS = ("a", "a/b/../c", "7", 7, SequenceId("m", 1, 7), SequenceId("m", 1, "7"), "é" * 1000, "\0")


def test_each_id_has_one_holder(tmp_path: Path) -> None:
    one, other = Claims(tmp_path, 0), Claims(tmp_path, 1)
    for id in IDS:
        assert one.holder(id) is None
        assert one.claim(id)
        assert one.claim(id)  # it is still his
        assert not other.claim(id)
        assert (one.holder(id), other.holder(id)) == (0, 0)
    for id in IDS:
        one.give_back(id)
        assert other.claim(id)
        assert one.holder(id) == 1


def test_of_those_who_race_one_wins(tmp_path: Path) -> None:
    racers = [Claims(tmp_path, number) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for id in range(200):
            won = list(threads.map(lambda claims, id=id: claims.claim(id), racers))
            assert sum(won) == 1
            assert racers[0].holder(id) == won.index(True)


def test_claims_of_a_dead_process_are_free(tmp_path: Path) -> None:
    """Those of the others, and what else lies there, stay."""
    (tmp_path / "1.socket").touch()
    one, other = Claims(tmp_path, 1), Claims(tmp_path, 11)
    for number in range(10):
        assert one.claim(f"one {number}")
        assert other.claim(f"other {number}")
    assert forget_claims(tmp_path, 1) == 10
    assert all(other.claim(f"one {number}") for number in range(10))
    assert all(one.holder(f"other {number}") == 11 for number in range(10))
    assert (tmp_path / "1.socket").exists()


def test_what_cannot_be_noted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitReached, match="No such file or directory"):
        Claims(tmp_path / "gone", 0).claim("a")


def test_nobody_else_may_look() -> None:
    from pathlib import Path

    with private_directory() as name:
        assert Path(name).stat().st_mode & 0o777 == 0o700
    assert not Path(name).exists()
