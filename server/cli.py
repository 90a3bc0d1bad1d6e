"""The command `rnnserve`: each subcommand's module is loaded only when it is called.

So `rnnserve serve` needs no torch, and `rnnserve --help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer.core import TyperGroup

from server.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Callable


class Lazy(NamedTuple):
    """Where a subcommand's function is, the extra that brings what it needs, and its short help."""

    module: str
    function: str
    extra: str
    help: str


COMMANDS = {
    "train": Lazy("models.cli", "train", "train", "Train an example model on real data."),
    "import-keras": Lazy(
        "models.keras_files.cli",
        "import_keras",
        "train",
        "Turn a model that Keras saved into a run.",
    ),
    "export": Lazy(
        "export.cli", "export", "train", "Turn a training run into a served model, and prove it."
    ),
    "inspect": Lazy(
        "inspection.cli", "inspect", "server", "Tell what an ONNX file needs to be served."
    ),
    "add": Lazy(
        "inspection.cli",
        "add",
        "server",
        "Put anybody's ONNX file into a repository, and prove it.",
    ),
    "serve": Lazy("server.commands", "serve", "server", "Serve a repository of models over gRPC."),
}


class LazyGroup(TyperGroup):
    """Lists all subcommands by their short help and imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        asks_for_one = cmd_name in sys.argv[1:2]
        return _command(cmd_name, _load(COMMANDS[cmd_name]) if asks_for_one else _unloaded)


def _command(name: str, function: Callable[..., Any]) -> Any:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, help=COMMANDS[name].help if function is _unloaded else None)(function)
    command = typer.main.get_command(app)
    command.name = name
    return command


def _unloaded() -> None:
    """Stands for a subcommand in the list of subcommands."""


def _load(lazy: Lazy) -> Callable[..., Any]:
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(lazy.module), lazy.function)
    except ModuleNotFoundError as missing:
        raise StartupError(
            f"this command needs {missing.name}: pip install 'rnnserve[{lazy.extra}]'"
        ) from None
    return function


app = typer.Typer(
    cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def rnnserve() -> None:
    """Recurrent models as a network service: sessions keep the hidden state between requests.

    The usual order: rnnserve train vowels, then rnnserve export runs/vowels --repository
    repository, then rnnserve serve --repository repository. With an ONNX file of your own:
    rnnserve add model.onnx --repository repository instead of the first two.
    """


def main() -> None:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own log repeats what we report
    try:
        app()
    except StartupError as error:
        typer.echo(f"rnnserve: {error}", err=True)
        sys.exit(1)
