"""Flags, counts and choices: what the text of a parameter may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.repository.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 2**64 - 1
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


def flag(text: str, label: str) -> bool:
    """Raises Problem, as the others do, which begins with `label`."""
    if text.lower() not in _FLAGS:
        raise Problem(f"{label}: {text!r}; expected 1 or 0, or true or false")
    return _FLAGS[text.lower()]


def count(text: str, label: str, most: int = _MOST) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > most:
        raise Problem(f"{label}: {text!r}; expected a whole number from 0 to {most}")
    return int(text)


def one_or_zero(text: str, label: str) -> str:
    return "1" if flag(text, label) else "0"


def digits(text: str, label: str) -> str:
    return str(count(text, label))


def one_of(*choices: str) -> Callable[[str, str], str]:
    def check(text: str, label: str) -> str:
        if text not in choices:
            raise Problem(f"{label}: {text!r}; expected one of {', '.join(choices)}")
        return text

    return check
