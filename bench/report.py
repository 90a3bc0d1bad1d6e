"""From measurements to the table that people see and to docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

PAGE = Path("docs/benchmarks.md")


@dataclass(frozen=True)
class Row:
    """One result. `samples` are ratios, or figures, of several alternating rounds."""

    what: str
    samples: list[float]
    wanted: str
    details: str = ""
    unit: str = ""

    @property
    def median(self) -> str:
        return f"{_figure(statistics.median(self.samples))}{self.unit}"

    @property
    def spread(self) -> str:
        if len(self.samples) == 1:
            return ""
        return f"{_figure(min(self.samples))}-{_figure(max(self.samples))}"


def show(console: Console, rows: list[Row], title: str = "Medians of alternating rounds") -> None:
    table = Table(title=f"\n{title}", title_justify="left")
    for heading in ("", "median", "spread", "wanted"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for row in rows:
        table.add_row(row.what, row.median, row.spread, row.wanted)
    console.print(table)


def write(rows: list[Row], engine: dict[str, list[float]], batch_sizes: list[int]) -> None:
    """Replace what the page says of the server."""
    lines = [
        f"`make bench`, {conditions()}, ONNX Runtime {version('onnxruntime-gpu')}, "
        f"grpcio {version('grpcio')}.",
        "",
        *table(rows),
        "",
        "The engine alone, session-steps per second, one timestep a run, one thread:",
        "",
        "| model | " + " | ".join(f"batch {size}" for size in batch_sizes) + " |",
        "|---" * (len(batch_sizes) + 1) + "|",
        *(
            f"| {model} | " + " | ".join(f"{figure:,.0f}" for figure in figures) + " |"
            for model, figures in engine.items()
        ),
    ]
    replace("measured", lines)


def table(rows: list[Row]) -> list[str]:
    """The rows in Markdown."""
    return [
        "| | median | spread | wanted | measured |",
        "|---|---|---|---|---|",
        *(f"| {r.what} | {r.median} | {r.spread} | {r.wanted} | {r.details} |" for r in rows),
    ]


def replace(part: str, lines: list[str], page: Path = PAGE) -> None:
    """Put `lines` between the marks of that part of the page."""
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    before, rest = page.read_text().split(begin)
    page.write_text(before + "\n".join([begin, *lines, end]) + rest.split(end)[1])


def conditions() -> str:
    """When, with which code, on what."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}; {os.cpu_count()} cores "
        f"({_processor()}), Python {platform.python_version()}"
    )


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
