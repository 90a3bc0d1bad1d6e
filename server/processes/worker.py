"""`python -m server.processes.worker`: one of several server processes, started by their parent."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

import structlog

from server import app, logs
from server.errors import StartupError
from server.processes.letter import Letter, Reply
from server.processes.member import Member

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from structlog.typing import EventDict, WrappedLogger


def main() -> int:
    """The exit code."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    parent = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whoever prints does not disturb
    letter = Letter.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_follow_parent, args=(letter.directory,), daemon=True).start()
    _configure_logs(letter)
    try:
        _run(_serve(letter, parent))
    except StartupError as error:
        _say(parent, Reply(problem=str(error)))
        return 1
    return 0


async def _serve(letter: Letter, parent: BinaryIO) -> None:
    await app.serve(letter.config, Member(letter, lambda: _say(parent, Reply())))


def _run(serve: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:  # where there is none: slower, otherwise the same
        asyncio.run(serve)
    else:
        uvloop.run(serve)


def _say(parent: BinaryIO, reply: Reply) -> None:
    parent.write(reply.model_dump_json().encode() + b"\n")
    parent.close()


def _follow_parent(directory: Path) -> None:
    """Standard input ends when the parent does: then nobody keeps this process, nor ends it."""
    os.read(sys.stdin.fileno(), 1)  # not through the buffer, whose lock would outlive the program
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(1)


def _configure_logs(letter: Letter) -> None:
    """Every line says which process it is of."""
    logs.configure(letter.config.log_format, letter.config.log_level)

    def name(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        return {**event, "process": letter.number}

    structlog.configure(processors=[name, *structlog.get_config()["processors"]])


if __name__ == "__main__":
    sys.exit(main())
