"""Measure, print a table, write docs/benchmarks.md.

    python -m bench

Everything that is compared is measured in alternation in this one run, so that whatever else the
machine does falls on both sides. Timings are reported, never judged: the exit code is 0.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import engine, processes, report, repository
from bench.shapes import HIDDEN_SIZES
from demo.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.load import Load
    from bench.report import Row

MODEL, HIDDEN = "lstm64", 64
ROUNDS = 5
SECONDS = 2.0
GRPCIO = ("--transport", "grpcio")  # what the page takes for granted
BUSY_US = 150
FEW, MANY = 100, 1_000_000
FRAMES = [(256, 256, "≥ 0.6"), (64, 256, ""), (64, 64, "")]  # units, sessions in a frame
IDLE = 1_000_000
BATCH_SIZES = [1, 8, 32, 128, 512]


def main() -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as folder, _progress(console) as progress:
        models = Path(folder)
        repository.write(models, HIDDEN_SIZES)
        rounds = (4 + len(FRAMES)) * ROUNDS
        task = progress.add_task("", total=rounds + 3 + len(HIDDEN_SIZES))

        def begin(what: str) -> None:
            progress.update(task, description=what)

        def done() -> None:
            progress.advance(task)

        rows = _against_echo(models, begin, done)
        rows += _frames(models, begin, done)
        rows += _with_many_sessions(models, begin, done)
        rows.append(_memory(models, begin))
        done()
        alone = {}
        for hidden in HIDDEN_SIZES:
            begin(f"engine alone, {hidden} units")
            name = f"lstm{hidden}"
            alone[name] = engine.steps_per_s(models, name, BATCH_SIZES, seconds=1.0)
            done()
    report.show(console, rows)
    report.write(rows, alone, BATCH_SIZES)
    console.print(f"wrote {report.PAGE}")


class Alternated:
    """What several servers did under the same load, round by round."""

    def __init__(self, loads: dict[str, list[Load]]) -> None:
        self._loads = loads

    def row(self, what: str, ours: str, theirs: str, field: str, wanted: str, unit: str) -> Row:
        """`field` of one server over that of another."""
        pairs = zip(self._loads[ours], self._loads[theirs], strict=True)
        ratios = [getattr(a, field) / getattr(b, field) for a, b in pairs]
        details = " over ".join(
            f"{statistics.median(getattr(load, field) for load in self._loads[name]):,.0f}{unit}"
            for name in (ours, theirs)
        )
        return report.Row(what, ratios, wanted, details)


def _alternate(
    servers: dict[str, str], sessions: int, begin: Callable[[str], None], done: Callable[[], None]
) -> Alternated:
    """The same load on each of the `servers`, names to addresses, in turn."""
    loads: dict[str, list[Load]] = {name: [] for name in servers}
    for round in range(ROUNDS):
        begin(f"{sessions} streamed, round {round + 1}")
        for name, address in servers.items():
            loads[name].append(processes.load(address, MODEL, sessions, SECONDS))
        done()
    return Alternated(loads)


def _against_echo(
    models: Path, begin: Callable[[str], None], done: Callable[[], None]
) -> list[Row]:
    with (
        processes.service_echo() as service,
        processes.bytes_echo(HIDDEN) as ready,
        processes.bytes_echo(HIDDEN, BUSY_US) as busy,
        ServerProcess(models, models / "server.log", *GRPCIO) as server,
        ServerProcess(models, models / "http2.log", "--transport", "http2") as http2,
    ):
        servers = {"ours": server.grpc, "http2": http2.grpc, "service": service, "bytes": ready}
        one = _alternate({**servers, "busy": busy}, 1, begin, done)
        many = _alternate(servers, 64, begin, done)
    p50, rate = ("p50_us", "≤ 1.35", " µs"), ("steps_per_s", "≥ 0.75", "/s")
    unjudged_p50, unjudged_rate = ("p50_us", "", " µs"), ("steps_per_s", "", "/s")
    return [
        one.row("one streamed step, p50 over an echo service's", "ours", "service", *p50),
        one.row("… by --transport http2", "http2", "service", *p50),
        one.row("… over an echo's of ready bytes", "ours", "bytes", *unjudged_p50),
        one.row(f"… of that echo busy for {BUSY_US} µs", "busy", "bytes", *unjudged_p50),
        many.row("64 streamed, steps/s over an echo service's", "ours", "service", *rate),
        many.row("… by --transport http2", "http2", "service", *rate),
        many.row("… over an echo's of ready bytes", "ours", "bytes", *unjudged_rate),
    ]


def _frames(models: Path, begin: Callable[[str], None], done: Callable[[], None]) -> list[Row]:
    rows = []
    with ServerProcess(models, models / "frames.log", *GRPCIO) as server:
        for hidden, sessions, wanted in FRAMES:
            model = f"lstm{hidden}"
            alone = engine.load_engine(models, model)
            pairs = []
            for round in range(ROUNDS):
                begin(f"frames of {sessions}, {hidden} units, round {round + 1}")
                ours = processes.frames(server.grpc, model, sessions, SECONDS)
                pairs.append((ours, engine.measure(alone, sessions, SECONDS / 2)))
                done()
            over = (statistics.median(column) for column in zip(*pairs, strict=True))
            rows.append(
                report.Row(
                    f"frames of {sessions} sessions, {hidden} units, over the engine alone",
                    [ours / theirs for ours, theirs in pairs],
                    wanted,
                    " over ".join(f"{rate:,.0f}/s" for rate in over),
                )
            )
    return rows


def _with_many_sessions(
    models: Path, begin: Callable[[str], None], done: Callable[[], None]
) -> list[Row]:
    options = (*GRPCIO, "--max-sessions", str(MANY + 1000))
    with ExitStack() as stack:
        few = stack.enter_context(ServerProcess(models, models / "few.log", *options))
        many = stack.enter_context(ServerProcess(models, models / "many.log", *options))
        seconds = {}
        for server, count in ((few, FEW), (many, MANY)):
            begin(f"opening {count:,} sessions")
            started_s = time.perf_counter()
            command = [sys.executable, "-m", "bench.resident", server.grpc, MODEL, str(count)]
            subprocess.run(command, check=True)
            seconds[count] = time.perf_counter() - started_s
            done()
        servers = {"many": many.grpc, "few": few.grpc}
        one = _alternate(servers, 1, begin, done)
        several = _alternate(servers, 64, begin, done)
        gigabytes = processes.resident_bytes(many.pid) / 1e9
    what = f"{MANY:,} sessions resident over {FEW}"
    return [
        one.row(f"one streamed step, {what}, p50", "many", "few", "p50_us", "≤ 1.1", " µs"),
        several.row(f"64 streamed, {what}, steps/s", "many", "few", "steps_per_s", "≥ 0.91", "/s"),
        report.Row(f"{MANY:,} sessions opened and stepped", [seconds[MANY]], "", "", " s"),
        report.Row("… the whole server's memory with them", [gigabytes], "≤ 2 GB", "", " GB"),
    ]


def _memory(models: Path, begin: Callable[[str], None]) -> Row:
    begin(f"{IDLE:,} idle sessions")
    command = [sys.executable, "-m", "bench.memory", str(models), MODEL, str(IDLE)]
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    return report.Row(
        "memory per idle session beyond its state",
        [float(finished.stdout)],
        "≤ 400 B",
        f"{IDLE:,} sessions that stepped once",
        " B",
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<40}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


if __name__ == "__main__":
    main()
