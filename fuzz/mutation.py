"""Bytes of a message that were damaged on the way, or made by a program that has it wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

MAX_CHANGES = 4


def mutated(rng: Random, message: bytes) -> bytes:
    """The message after up to so many changes; perhaps it still can be read."""
    for _ in range(rng.randrange(1, MAX_CHANGES + 1)):
        message = rng.choice(CHANGES)(rng, message)
    return message


def _flip(rng: Random, message: bytes) -> bytes:
    """One bit."""
    if not message:
        return message
    place = rng.randrange(len(message))
    return message[:place] + bytes([message[place] ^ 1 << rng.randrange(8)]) + message[place + 1 :]


def _cut(rng: Random, message: bytes) -> bytes:
    """The end is missing."""
    return message[: rng.randrange(len(message) + 1)]


def _without(rng: Random, message: bytes) -> bytes:
    """A piece is missing."""
    begin, end = _piece(rng, message)
    return message[:begin] + message[end:]


def _twice(rng: Random, message: bytes) -> bytes:
    """A piece, perhaps a field, comes twice."""
    begin, end = _piece(rng, message)
    return message[:end] + message[begin:end] + message[end:]


def _added(rng: Random, message: bytes) -> bytes:
    """Something else in between: an unknown field perhaps."""
    place = rng.randrange(len(message) + 1)
    return message[:place] + rng.randbytes(rng.randrange(1, 12)) + message[place:]


def _replaced(rng: Random, message: bytes) -> bytes:
    """A byte that is a key, a length or a number has become another."""
    if not message:
        return message
    place = rng.randrange(len(message))
    value = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return message[:place] + bytes([value]) + message[place + 1 :]


def _whole_twice(rng: Random, message: bytes) -> bytes:
    """Two messages in one: lists are joined, of the rest the last counts."""
    return message + message


def _piece(rng: Random, message: bytes) -> tuple[int, int]:
    begin = rng.randrange(len(message) + 1)
    return begin, min(len(message), begin + rng.randrange(40))


CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(_flip, _flip, _flip, _cut, _without, _twice, _added, _replaced, _replaced, _whole_twice),
)
