"""What is logged, and how it is changed while the server runs."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
import structlog

from server import logs
from server.logs import LogSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("debug", "info", "warning", "error")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def logged(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The kinds of events that come out when one of each is logged."""
    log = structlog.get_logger()
    capsys.readouterr()
    for kind in KINDS:
        getattr(log, kind)("event", kind=kind)
    return [json.loads(line)["kind"] for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("level", KINDS)
def test_the_level_at_the_start(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", level)
    assert logged(capsys) == list(KINDS[KINDS.index(level) :])
    assert logs.settings().wanted() == list(KINDS[KINDS.index(level) :])


@pytest.mark.parametrize("chosen", list(itertools.product((False, True), repeat=4)))
def test_each_kind_by_itself(chosen: tuple[bool, ...], capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    debug, info, warning, error = chosen
    settings = LogSettings(info, warning, error, log_verbose_level=3 * debug)
    logs.change(settings)
    assert logged(capsys) == [k for k, is_on in zip(KINDS, chosen, strict=True) if is_on]
    assert logs.settings() == settings


def test_an_exception_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "info")
    logs.change(LogSettings(log_error=False))
    structlog.get_logger().exception("lost", exc_info=ValueError("why"))
    assert not capsys.readouterr().err
    logs.change(LogSettings())
    structlog.get_logger().exception("told", exc_info=ValueError("why"))
    assert "ValueError: why" in json.loads(capsys.readouterr().err)["exception"]


def time_of(format: str, form: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Where the time stands in a line of that format."""
    logs.configure(format, "info")
    logs.change(LogSettings(log_format=form))  # type: ignore[arg-type]
    structlog.get_logger().info("event")
    line = capsys.readouterr().err
    return str(json.loads(line)["timestamp"] if format == "json" else line.split()[0])


def test_people_may_have_dates(capsys: pytest.CaptureFixture[str]) -> None:
    assert time_of("console", "default", capsys).count(":") == 2
    assert "T" not in time_of("console", "default", capsys)
    assert "T" in time_of("console", "ISO8601", capsys)


def test_machines_always_have_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert "T" in time_of("json", "default", capsys)
    assert "T" in time_of("json", "ISO8601", capsys)


def test_before_anything_was_configured() -> None:
    structlog.reset_defaults()
    assert logs.settings() == LogSettings()
