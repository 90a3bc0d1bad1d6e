"""A whole run: from the command line to what it says, stores and exits with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fuzz.__main__ import _errors, _told
from fuzz.tally import Finding, Tally

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("transport", ["grpcio", "http2", "native"])
def test_a_short_one_finds_nothing(transport: str) -> None:
    options = ("--seed", "5", "--transport", transport, "--workers", "2", "--requests", "60")
    done = run(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing wrong. Again: make fuzz SEED=5" in done.stdout
    assert "INVALID_ARGUMENT" in done.stdout


def test_several_processes() -> None:
    done = run("--seed", "5", "--transport", "grpcio", "--requests", "40", "--processes", "2")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_transport_that_is_none() -> None:
    done = run("--transport", "carrier pigeons")
    assert done.returncode == 2
    assert "carrier pigeons" in done.stderr


def test_a_finding_is_told_and_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    finding = Finding("was wrong", "http2", 3, 812, "/a/B", b"\x01\x02", "id: 1")
    assert _told(Console(width=200), 7, Tally(findings=[finding])) == 1
    said = capsys.readouterr().out
    assert "http2, worker 3, request 812: /a/B" in said
    assert "python -m fuzz --seed 7 --transport http2 --worker 3 --requests 812" in said
    stored = (tmp_path / ".fuzz" / "7-1.txt").read_text()
    assert stored.startswith("was wrong\n")
    assert "id: 1" in stored
    assert stored.endswith("0102\n")


def test_errors_in_the_log_of_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert _errors(log) == []
    events = [{"event": "fine", "level": "info"}, {"event": "request failed", "level": "error"}]
    log.write_text("\n".join([*map(json.dumps, events), "Traceback (most recent call last):", ""]))
    assert _errors(log) == [events[1], {"line": "Traceback (most recent call last):"}]
