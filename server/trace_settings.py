"""What clients say about traces, for the server and for single models.

Kept, checked and told as the protocol's trace extension says, but no trace is written: load
generators and other tools set and read these, whether they want traces or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from server.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = structlog.get_logger()

Values = tuple[str, ...]

# what the protocol's other servers begin with
DEFAULTS: dict[str, Values] = {
    "trace_level": ("OFF",),
    "trace_rate": ("1000",),
    "trace_count": ("-1",),
    "log_frequency": ("0",),
    "trace_file": ("",),
    "trace_mode": ("triton",),
}
LEVELS = ("TIMESTAMPS", "TENSORS")  # in the order in which they are told
OFF = ("OFF",)
MAX_TEXT = 4096  # characters of a setting: a path's


class TraceSettings:
    """A model follows the server in what was not said of itself, and the server its defaults."""

    def __init__(self) -> None:
        self._said: dict[str, dict[str, Values]] = {"": {}}  # by model; "" is the server

    def told(self, model: str = "") -> dict[str, Values]:
        """All settings as they count for a model, or without one for the server."""
        return DEFAULTS | self._said[""] | self._said.get(model, {})

    def change(self, model: str, settings: Mapping[str, Sequence[str]]) -> None:
        """Set those that are named, all or none; one without a value is what it was before anybody
        said something. Raises InvalidRequest.
        """
        said = dict(self._said.get(model, {}))
        for name, values in settings.items():
            checked = _checked(name, values)
            if checked:
                said[name] = checked
            else:
                said.pop(name, None)
        before = self.told(model)
        after = DEFAULTS | (self._said[""] if model else {}) | said
        if after["trace_level"] != OFF and after["trace_rate"] == ("0",):
            raise InvalidRequest(
                "Attempting to set invalid trace setting: trace_rate must be above 0 unless "
                "trace_level is OFF"
            )
        if said or not model:
            self._said[model] = said
        else:
            self._said.pop(model, None)
        if after["trace_level"] != OFF and before["trace_level"] == OFF:
            log.warning(
                "a client has turned tracing on; the setting is kept, but no trace is written",
                model=model or "all",
            )


def _checked(name: str, values: Sequence[str]) -> Values:
    """The values in the form in which they are told. Raises InvalidRequest."""
    check = CHECKS.get(name)
    if check is None:
        raise InvalidRequest(f"unknown trace setting '{name}', expected one of {list(CHECKS)}")
    if not values:
        return ()
    if name != "trace_level" and len(values) > 1:
        raise InvalidRequest(f"expect only 1 value for '{name}', got {len(values)}")
    return check(name, values)


def _level(name: str, values: Sequence[str]) -> Values:
    if "OFF" in values:
        if len(values) > 1:
            raise InvalidRequest("Expect only one trace level 'OFF' is specified")
        return OFF
    for value in values:
        if value not in LEVELS:
            raise InvalidRequest(
                f"unknown trace level '{value[:MAX_TEXT]}', expected OFF or some of {list(LEVELS)}"
            )
    return tuple(level for level in LEVELS if level in values)


def _number(lowest: int, highest: int) -> Callable[[str, Sequence[str]], Values]:
    """A check for whole numbers in these bounds."""

    def check(name: str, values: Sequence[str]) -> Values:
        text = values[0]
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal()):
            raise InvalidRequest(f"Unable to parse '{name}', got: {text[:MAX_TEXT]}")
        if len(digits) > 20 or not lowest <= int(text) <= highest:
            raise InvalidRequest(
                f"Unable to parse '{name}', value is out of range [ {lowest}, {highest} ], "
                f"got: {text[:MAX_TEXT]}"
            )
        return (str(int(text)),)

    return check


def _file(name: str, values: Sequence[str]) -> Values:
    if len(values[0]) > MAX_TEXT:
        raise InvalidRequest(f"'{name}': expected at most {MAX_TEXT} characters")
    return (values[0],)


def _mode(name: str, values: Sequence[str]) -> Values:
    """May be said again as it was told, nothing else."""
    if tuple(values) != DEFAULTS[name]:
        raise InvalidRequest(
            f"'{name}' cannot be changed: expected {DEFAULTS[name][0]}, got: {values[0][:MAX_TEXT]}"
        )
    return ()


CHECKS: dict[str, Callable[[str, Sequence[str]], Values]] = {
    "trace_level": _level,
    "trace_rate": _number(0, 2**32 - 1),
    "trace_count": _number(-1, 2**31 - 1),
    "log_frequency": _number(0, 2**32 - 1),
    "trace_file": _file,
    "trace_mode": _mode,
}
