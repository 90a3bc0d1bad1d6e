"""Throw malformed requests at a real server, and see that it stands: python -m fuzz --help."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import grpc
import typer
from rich.console import Console

from demo.server_process import ServerFailed, ServerProcess
from fuzz import report, repository
from fuzz.tally import Finding, Tally
from fuzz.worker import Worker
from rnnserve.v1 import session_pb2, session_pb2_grpc

if TYPE_CHECKING:
    from rich.progress import Progress

TRANSPORTS = ("grpcio", "http2", "native")
FOLDER = Path(".fuzz")
REFRESH_S = 0.25
WIDTH = 110  # characters of a line in a file
MAX_FINDINGS = 5

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def main(
    minutes: Annotated[float, typer.Option(help="How long, all transports together.")] = 3.0,
    seed: Annotated[
        int | None, typer.Option(help="What is sent follows from it.", show_default="another")
    ] = None,
    transport: Annotated[
        list[str] | None,
        typer.Option(help="Of the server; may be given several times.", show_default="all three"),
    ] = None,
    workers: Annotated[int, typer.Option(help="Clients at a time.")] = 6,
    worker: Annotated[int | None, typer.Option(help="Only this client.")] = None,
    requests: Annotated[
        int | None, typer.Option(help="So many of each client, however long it takes.")
    ] = None,
    processes: Annotated[int, typer.Option(help="Of the server.")] = 1,
) -> None:
    """Throw malformed requests at a real server, and see that it stands.

    Every client sends, in an order that follows from the seed: requests that are right; the same
    with lengths, shapes, names, types or parameters spoiled; bytes with flipped bits or parts
    missing; any message to any method; noise. In calls and in streams.

    Wrong are: INTERNAL or UNKNOWN in place of a clear status, an answer that does not come, a
    server that dies or logs an error, a session that is left behind, and above all a session that a
    refused request has changed. The model computes `h = 3 h + x` in integers that wrap around, so
    whatever was changed shows in every later answer, which is compared bit for bit.

    What is found is printed and stored under .fuzz/, and the exit code is 1. To find it again, all
    that its client had sent is sent once more:

    `python -m fuzz --seed 7 --transport http2 --worker 3 --requests 812`
    """
    unknown = set(transport or ()) - set(TRANSPORTS)
    if unknown:
        raise typer.BadParameter(f"{sorted(unknown)}: expected some of {list(TRANSPORTS)}")
    chosen = tuple(transport or TRANSPORTS)
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    console, tally = Console(), Tally()
    if not console.is_terminal:
        console.width = WIDTH
    console.print(f"seed {seed}", highlight=False)
    numbers = range(workers) if worker is None else (worker,)
    seconds = minutes * 60 / len(chosen)
    with tempfile.TemporaryDirectory() as folder, report.progress(console) as bars:
        root = Path(folder)
        repository.write(root / "models")
        for name in chosen:
            if len(tally.findings) >= MAX_FINDINGS:
                break
            run = Run(root, name, seed, numbers, seconds, requests, processes, tally)
            asyncio.run(run.all(bars))
    console.print(report.table(tally))
    raise typer.Exit(_told(console, seed, tally))


def _told(console: Console, seed: int, tally: Tally) -> int:
    """The exit code, after the findings are told and stored."""
    for number, finding in enumerate(tally.findings, start=1):
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{seed}-{number}.txt"
        finding.save(path)
        report.show(console, finding, str(path))
        if finding.number:
            again = f"--worker {finding.worker} --requests {finding.number}"
            command = f"python -m fuzz --seed {seed} --transport {finding.transport} {again}"
            console.print(f"  again: {command}", highlight=False)
    if not tally.findings:
        console.print(f"Nothing wrong. Again: make fuzz SEED={seed}", highlight=False)
    return 1 if tally.findings else 0


class Run:
    """Some clients and a server of one transport."""

    def __init__(
        self,
        root: Path,
        transport: str,
        seed: int,
        numbers: Any,
        seconds: float,
        requests: int | None,
        processes: int,
        tally: Tally,
    ) -> None:
        self._log = root / f"{transport}.log"
        self._models = root / "models"
        self._transport = transport
        self._seed = seed
        self._numbers = numbers
        self._seconds = seconds
        self._requests = requests
        self._options = ("--transport", transport, "--processes", str(processes))
        self._tally = tally

    async def all(self, bars: Progress) -> None:
        try:
            with ServerProcess(self._models, self._log, *self._options) as server:
                if not await self._workers(server, bars):
                    self._look_back(server)
        except ServerFailed as failed:
            self._wrong(f"the server did not start: {failed}")
        for event in _errors(self._log):
            self._wrong(f"the server's log: {json.dumps(event, indent=1)}".replace("\\n", "\n"))

    async def _workers(self, server: ServerProcess, bars: Progress) -> bool:
        """Whether they have found something."""
        tally, begin_s = self._tally, time.monotonic()
        end_s, before, found = begin_s + self._seconds, tally.requests, len(tally.findings)

        def goes_on(number: int) -> bool:
            if self._requests is not None:
                return number <= self._requests
            return time.monotonic() < end_s and len(tally.findings) == found

        bar = bars.add_task(self._transport, total=self._seconds, rate=0, seen="")
        each = (server.grpc, self._transport, self._seed)
        tasks = [asyncio.create_task(Worker(*each, n, tally).run(goes_on)) for n in self._numbers]
        while not all(task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=REFRESH_S)
            passed_s = time.monotonic() - begin_s
            rate = (tally.requests - before) / passed_s
            bars.update(bar, completed=passed_s, rate=rate, seen=report.seen(tally))
        await asyncio.gather(*tasks)
        return len(tally.findings) > found

    def _look_back(self, server: ServerProcess) -> None:
        """Everybody has ended what was begun."""
        with grpc.insecure_channel(server.grpc) as channel:
            stub = session_pb2_grpc.SessionServiceStub(channel)
            left = stub.ListSessions(session_pb2.ListSessionsRequest(), timeout=10).sessions
        if left:
            self._wrong(f"{len(left)} sessions are left that nobody has begun: {left[0]}")

    def _wrong(self, what: str) -> None:
        self._tally.findings.append(Finding(what, self._transport, 0, 0, "afterwards"))


def _errors(log: Path) -> list[dict[str, Any]]:
    """What the server has logged of bugs, a few at most."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    events = [json.loads(line) for line in lines if line.startswith("{")]
    others = [{"line": line} for line in lines if line.startswith(("Traceback", "Fatal"))]
    return ([event for event in events if event.get("level") == "error"] + others)[:3]


if __name__ == "__main__":
    app()
