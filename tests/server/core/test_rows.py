from __future__ import annotations

import pytest

from server.core.rows import RowPool


def test_rows_are_handed_out_once_each_and_never_the_initial_one() -> None:
    pool = RowPool(6)
    assert pool.free == 5
    assert sorted([*pool.take(2), *pool.take(3)]) == [1, 2, 3, 4, 5]
    assert pool.free == 0


def test_used_rows_come_before_fresh_ones() -> None:
    pool = RowPool(10)
    rows = pool.take(3)
    pool.give_back(rows[:2])
    assert set(pool.take(2)) == set(rows[:2])
    pool.give_back(rows[2:])
    assert pool.take(3) == (rows[2], 4, 5)


def test_giving_back_the_initial_row_changes_nothing() -> None:
    pool = RowPool(4)
    pool.give_back((0, 0))
    assert pool.free == 3
    assert sorted(pool.take(3)) == [1, 2, 3]


def test_taking_nothing_gives_nothing() -> None:
    pool = RowPool(3)
    pool.give_back(pool.take(1))
    assert pool.take(0) == ()
    assert pool.free == 2


def test_taking_more_than_there_is_is_a_bug() -> None:
    pool = RowPool(3)
    with pytest.raises(AssertionError, match="3 rows wanted, 2 free"):
        pool.take(3)
    assert repr(pool) == "<RowPool 2 of 3 free>"
