"""Where a setting comes from, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from server.config import ServerConfig, load
from server.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.upper().startswith("RNNSERVE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "rnnserve.toml"
        path.write_text(text)
        return path

    return write


def test_without_anything_there_are_defaults() -> None:
    config = load()
    assert (config.host, config.grpc_port, config.http_port) == ("127.0.0.1", 8001, 8002)
    assert config.limits.max_sessions == 100_000
    assert load(None, grpc_port=None, max_chunk=None).model_dump() == config.model_dump()


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"file"}, 1),
        ({"environment"}, 2),
        ({"file", "environment"}, 2),
        ({"command line"}, 3),
        ({"file", "command line"}, 3),
        ({"environment", "command line"}, 3),
        ({"file", "environment", "command line"}, 3),
    ],
)
@pytest.mark.parametrize("setting", ["grpc_port", "max_chunk"])
def test_the_command_line_beats_the_environment_beats_the_file(
    file: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    sources: set[str],
    expected: int,
) -> None:
    nested = setting == "max_chunk"
    path = file(f"{'[limits]' if nested else ''}\n{setting} = 1") if "file" in sources else None
    if "environment" in sources:
        prefix = "RNNSERVE_LIMITS__" if nested else "RNNSERVE_"
        monkeypatch.setenv(prefix + setting.upper(), "2")
    given: dict[str, Any] = {setting: 3} if "command line" in sources else {}
    config = load(path, **given)
    assert getattr(config.limits if nested else config, setting) == expected


def test_limits_may_come_from_three_places_at_once(
    file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNSERVE_LIMITS__MAX_PENDING", "20")
    limits = load(file("[limits]\nmax_sessions = 10\nmax_pending = 11"), max_chunk=30).limits
    assert (limits.max_sessions, limits.max_pending, limits.max_chunk) == (10, 20, 30)
    assert limits.max_pending_per_session == 256


def test_the_configuration_cannot_be_changed() -> None:
    config = load()
    with pytest.raises(ValidationError):
        config.grpc_port = 1
    with pytest.raises(ValidationError):
        config.limits.max_chunk = 1


def test_paths_and_numbers_are_taken_as_such(file: Callable[[str], Path]) -> None:
    config = load(file('repository = "/models"\ndrain_limit_s = 2'))
    assert config.repository == Path("/models")
    assert config.drain_limit_s == 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpc_port = 70000", r"^setting grpc_port: .*65535.*, got 70000$"),
        ('provider = "tpu"', r"^setting provider: .*'cuda'.*, got 'tpu'$"),
        ("[limits]\nmax_chunk = -1", r"^setting limits.max_chunk: .*, got -1$"),
        ("grcp_port = 1", r"^setting grcp_port: Extra inputs.*, got 1$"),
        ("[limits]\nmax_session = 1", r"^setting limits.max_session: Extra inputs"),
        ("limits = 3", r"^setting limits: .*, got 3$"),
        ("grpc_port = ?", r"^configuration file .*rnnserve.toml: .*line 1"),
        ("\x80", r"^configuration file .*rnnserve.toml: "),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_setting(
    file: Callable[[str], Path], text: str, message: str
) -> None:
    with pytest.raises(StartupError, match=message) as caught:
        load(file(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RNNSERVE_GRPC_PORT", "web", r"^setting grpc_port: .*integer.*, got 'web'$"),
        ("RNNSERVE_LIMITS__MAX_SESSIONS", "0", r"^setting limits.max_sessions: .*, got '0'$"),
        ("RNNSERVE_LIMITS", "many", r"^environment: .*\"limits\""),
        ("RNNSERVE_LIMITS__MAX_SESION", "1", r"^setting limits.max_sesion: Extra"),
    ],
)
def test_a_wrong_environment_is_one_line_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=message) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"nowhere\.toml: no such file$"):
        load(tmp_path / "nowhere.toml")


def test_a_setting_that_the_command_line_gives_wrongly_is_named() -> None:
    with pytest.raises(StartupError, match=r"^setting limits\.max_message_bytes: .*1024.*, got 3$"):
        load(max_message_bytes=3)


def test_every_setting_of_the_command_line_is_one_of_the_configuration() -> None:
    from inspect import signature

    from server.commands import serve
    from server.config import LimitsConfig

    options = set(signature(serve).parameters) - {"config"}
    assert options == {*ServerConfig.model_fields, *LimitsConfig.model_fields} - {"limits"}
