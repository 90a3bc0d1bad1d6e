"""The core with an engine that cannot make a mistake unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.server.core.driven import Core
from tests.server.core.fake_engine import INITIAL, alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@pytest.fixture
def make_core() -> type[Core]:
    return Core


@pytest.fixture
def core() -> Core:
    return Core()


@pytest.fixture
def lone() -> Callable[[int, Iterable[int]], list[int]]:
    """`lone(state, values)`: the states after each of `values`."""
    return alone


@pytest.fixture
def initial() -> int:
    """The value of the initial state."""
    return INITIAL
