"""One worker process, as the parent sees it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from typing import TYPE_CHECKING

from server.errors import StartupError
from server.processes.letter import Reply

if TYPE_CHECKING:
    from server.processes.letter import Letter


class Child:
    """May be started again once it has ended."""

    def __init__(self, letter: Letter) -> None:
        self.number = letter.number
        self._letter = letter
        self._process: Process | None = None

    async def start(self) -> None:
        """Come back when it serves. Raises StartupError with what it says of itself."""
        # -P: no module of the directory that we happen to be in stands for one of ours
        command = (sys.executable, "-P", "-m", "server.processes.worker")
        self._process = process = await asyncio.create_subprocess_exec(
            *command,
            str(self.number),  # for whoever looks at the list of processes
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which tells them
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self._letter.model_dump_json().encode() + b"\n")
        line = await process.stdout.readline()
        if not line:
            code = await process.wait()
            raise StartupError(f"a server process has ended before it served, by {_how(code)}")
        problem = Reply.model_validate_json(line).problem
        if problem:
            raise StartupError(problem)

    def send_signal(self, signum: int) -> None:
        """If it is there."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signum)

    async def ended(self) -> str:
        """Wait until it is no more; how it ended, empty if as it should."""
        assert self._process is not None
        code = await self._process.wait()
        return _how(code) if code else ""

    async def kill(self) -> None:
        """End it, if it is there."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
