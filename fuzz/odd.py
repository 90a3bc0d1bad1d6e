"""Values at the edges of what a field can hold, and somewhat beyond what anybody would send.

Everything random here and in what is built on it comes from one `random.Random`: of a seed, or of a
test that wants to make its example smaller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

T = TypeVar("T")

MEGABYTE = 2**20
NUMBERS = (0, 1, -1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, -(2**63))
REALS = (0.0, -0.0, 1.0, 0.5, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    *("", "0", "1", "-1", " ", ".", "..", "/", "a/b", "../../etc/passwd", "*", "%s", "{}", "\0"),
    *("\n", "true", "None", "½", "٣", "é", "🙂", "\ufeff", "'; --", "x" * 300, "9" * 10_000),
)
VERSIONS = (
    *("", "1", "2", "3", "01", "00", "1.0", "-1", "+1", " 1", "1 ", "٣", "½", str(10**30)),
    *("0x1", "1e0", "1_0", "latest", "9" * 5000, str(2**63), str(2**64)),
)


def number(rng: Random) -> int:
    """One of 64 bits, with a sign."""
    return rng.choice(NUMBERS) if rng.random() < 0.7 else rng.randrange(-(2**63), 2**63)


def unsigned(rng: Random) -> int:
    """One of 64 bits, without a sign."""
    return number(rng) % 2**64


def real(rng: Random) -> float:
    return rng.choice(REALS)


def text(rng: Random, *likely: str) -> str:
    """Half of the time one of the `likely` ones."""
    if likely and rng.random() < 0.5:
        return rng.choice(likely)
    if rng.random() < 0.02:
        return rng.choice("aé🙂") * (MEGABYTE // 4)
    return rng.choice(TEXTS)


def content(rng: Random) -> bytes:
    if rng.random() < 0.02:
        return bytes(MEGABYTE)
    return rng.randbytes(rng.choice((0, 1, 7, 8, 15, 16, 17, 32, 48, 100)))


def flag(rng: Random) -> bool:
    return rng.random() < 0.5


def some(rng: Random, all: Sequence[T], at_most: int) -> list[T]:
    """So many of them, perhaps none, each perhaps several times."""
    return [rng.choice(all) for _ in range(rng.randrange(at_most + 1))]
