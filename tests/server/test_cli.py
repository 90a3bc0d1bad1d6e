"""The command `rnnserve`, as its users start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from server import cli
from server.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Callable

HEAVY = ("torch", "onnx", "onnxruntime", "grpc", "numpy", "pydantic", "models", "export")

REPORT = """\
import json, sys
{hook}
from server.cli import main
sys.argv = ["rnnserve", *{arguments!r}]
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
print("\\n" + json.dumps([code, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


class Ran:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        *lines, last = done.stdout.strip().splitlines()
        self.code, self.modules = json.loads(last)
        self.out = " ".join("\n".join(lines).split())
        self.err = done.stderr


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    def run(*arguments: str, hook: str = "") -> Ran:
        return Ran(
            subprocess.run(
                [sys.executable, "-c", REPORT.format(arguments=arguments, hook=hook)],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
                timeout=60,
            )
        )

    return run


def without(module: str) -> str:
    """A hook: `module` is not installed."""
    return f"sys.modules[{module!r}] = None"


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_lists_the_commands_and_loads_nothing_heavy(
    run: Callable[..., Ran], arguments: list[str]
) -> None:
    ran = run(*arguments)
    text = ran.out + ran.err
    for name, command in cli.COMMANDS.items():
        assert name in text
        assert command.help in " ".join(text.replace("│", " ").split())
    assert set(HEAVY).isdisjoint(ran.modules)


def test_help_of_a_command_lists_its_options(run: Callable[..., Ran]) -> None:
    ran = run("serve", "--help")
    assert ran.code == 0
    for option in ("--repository", "--grpc-port", "--max-sessions", "--engine-thread", "--config"):
        assert option in ran.out
    assert "Usage: rnnserve serve" in ran.out
    assert {"torch", "onnxruntime", "models", "export"}.isdisjoint(ran.modules)


@pytest.mark.parametrize("command", ["inspect", "add"])
def test_help_about_foreign_models_answers_at_once(run: Callable[..., Ran], command: str) -> None:
    ran = run(command, "--help")
    assert ran.code == 0
    for option in ("--state", "--constant", "--size", "--stateless"):
        assert option in ran.out
    assert {"onnx", "onnxruntime", "torch", "grpc"}.isdisjoint(ran.modules)


@pytest.mark.parametrize("command", ["inspect", "add"])
def test_what_foreign_models_need_is_named(run: Callable[..., Ran], command: str) -> None:
    more = ["--repository", "r"] if command == "add" else []
    ran = run(command, "model.onnx", *more, hook=without("onnxruntime"))
    assert ran.code == 2
    assert ran.err == ("Error: this command needs onnxruntime: pip install 'rnnserve[server]'\n")


def test_an_unknown_command_is_an_error_of_usage(run: Callable[..., Ran]) -> None:
    ran = run("sreve")
    assert ran.code == 2
    assert "No such command 'sreve'" in ran.err


def test_an_unknown_option_is_an_error_of_usage(run: Callable[..., Ran]) -> None:
    ran = run("serve", "--port", "1")
    assert ran.code == 2
    assert "No such option" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(("command", "module", "extra"), [("serve", "pydantic_settings", "server")])
def test_a_missing_extra_is_named(
    run: Callable[..., Ran], command: str, module: str, extra: str
) -> None:
    ran = run(command, hook=without(module))
    assert ran.code == 1
    assert ran.err == (f"rnnserve: this command needs {module}: pip install 'rnnserve[{extra}]'\n")


def test_a_wrong_setting_is_one_line(run: Callable[..., Ran]) -> None:
    ran = run("serve", "--max-chunk", "-1")
    assert ran.code == 1
    assert ran.err.startswith("rnnserve: setting limits.max_chunk: ")
    assert ran.err.count("\n") == 1


def test_a_missing_repository_is_one_line(run: Callable[..., Ran]) -> None:
    ran = run("serve", "--repository", "nowhere", "--grpc-port", "0", "--http-port", "0")
    assert ran.code == 1
    assert [line for line in ran.err.splitlines() if line.startswith("rnnserve: ")]
    assert "nowhere" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_where_the_list_says(name: str) -> None:
    lazy = cli.COMMANDS[name]
    source = Path(cli.__file__).parents[1] / (lazy.module.replace(".", "/") + ".py")
    assert f"\ndef {lazy.function}(" in source.read_text()
    assert lazy.extra in {"server", "train"}


def test_a_command_that_needs_what_is_not_installed() -> None:
    lazy = cli.Lazy("a_module_that_nobody_has.cli", "run", "train", "…")
    with pytest.raises(
        StartupError, match=r"needs a_module_that_nobody_has: .*'rnnserve\[train\]'"
    ):
        cli._load(lazy)


def test_only_a_startup_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(error: Exception) -> Any:
        def app() -> None:
            raise error

        return app

    monkeypatch.setattr(cli, "app", fail(StartupError("no port")))
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert capsys.readouterr().err == "rnnserve: no port\n"
    monkeypatch.setattr(cli, "app", fail(KeyError("a bug")))
    with pytest.raises(KeyError):
        cli.main()


def test_without_the_servers_libraries_the_script_says_what_to_install() -> None:
    block = "import sys; sys.modules['typer'] = None; from server.entry import main; main()"
    ended = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr == ("rnnserve: this command needs typer: pip install 'rnnserve[server]'\n")
