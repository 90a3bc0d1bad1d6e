"""perf_analyzer as it comes, pointed at one server or another."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.shapes import FEATURES
from bench.triton.figures import Failed, Figures

if TYPE_CHECKING:
    from bench.triton.environment import Environment

WINDOW_S, WINDOWS = 1.0, 3
LIMIT_S = 30.0  # it waits for ever for a server that has died


def measure(
    environment: Environment, address: str, model: str, sequences: int, *, streamed: bool
) -> Figures:
    """`sequences` of 20 steps or so, one step of each outstanding, for three windows of a second.

    Raises Failed where it has no result: the server is gone, or answered with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        command: list[str | Path] = [
            *(environment.perf_analyzer, "-m", model, "-u", address, "-i", "grpc"),
            *(["--streaming"] if streamed else []),
            *("--concurrency-range", str(sequences), "--shape", f"frames:1,{FEATURES}"),
            *("-p", f"{1000 * WINDOW_S:.0f}", "-r", str(WINDOWS)),
            # Whatever the three windows say is the result: alternation is against the noise.
            *("--stability-percentage", "99999", "--percentile", "50", "-f", report),
        ]
        try:
            ran = subprocess.run(
                command,
                env=environment.variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"perf_analyzer was not done after {LIMIT_S:.0f} s") from None
        if not report.exists():
            raise Failed(f"perf_analyzer has no result: {_complaint(ran.stdout)}")
        return read(report.read_text())


def read(report: str) -> Figures:
    """The one line of figures in a report that perf_analyzer wrote as CSV."""
    (row,) = csv.DictReader(report.splitlines())
    return Figures(float(row["Inferences/Second"]), float(row["p50 latency"]))


def _complaint(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or "failed" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1]
