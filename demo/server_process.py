"""A real `rnnserve serve` in a process of its own, for as long as a `with` block lasts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

START_LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
RNNSERVE = Path(sys.executable).with_name("rnnserve")  # of the same environment


class ServerFailed(Exception):
    """The server did not start; the text is the last that it said."""


class ServerProcess:
    """`grpc` and `http` are the addresses it listens on, of its own choosing."""

    def __init__(self, repository: Path, log: Path, *options: str) -> None:
        self._log = log
        self._command = [
            *(str(RNNSERVE), "serve", "--repository", str(repository), "--log-format", "json"),
            *("--grpc-port", "0", "--http-port", "0", "--drain-limit-s", "1", *options),
        ]
        self.grpc = self.http = ""
        self.models: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command, stderr=log, stdout=log)
        try:
            self._wait_until_ready()
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        give_up_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < give_up_s:
            ended = self._process.poll() is not None
            for event in self._events():
                if event.get("event") == "serving":
                    self.grpc, self.http = event["grpc"], event["http"]
                    self.models = [e for e in self._events() if e.get("event") == "model ready"]
                    return
            if ended:
                break
            time.sleep(0.05)
        raise ServerFailed(self._log.read_text().strip().rpartition("\n")[2] or "no word from it")

    def _events(self) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]
