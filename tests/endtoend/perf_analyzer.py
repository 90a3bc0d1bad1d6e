"""NVIDIA's perf_analyzer, the binary as it comes, and what it reports."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import load_generator

if TYPE_CHECKING:
    from bench.load_generator import Program

FOLDER = Path(__file__).parents[2] / ".venv-perf"
LIMIT_S = 100.0
WINDOW_MS, WINDOWS = 400, 3  # it wants three
ENOUGH = ("-p", str(WINDOW_MS), "-r", "10", "--stability-percentage", "99999")
NOT_OURS = "was not able to keep up with the desired request rate"  # this machine, the client


class Report(NamedTuple):
    """What it has printed, and its exit code."""

    exit_code: int
    text: str

    @property
    def complaints(self) -> list[str]:
        """The lines that say that something was not as it should be."""
        lines = (line.strip() for line in self.text.splitlines())
        bad = re.compile("error|fail|warn|unable|invalid|not supported", re.IGNORECASE)
        return [line for line in lines if bad.search(line) and NOT_OURS not in line]

    def numbers(self, label: str) -> list[int]:
        """Those that stand behind `label`, one of each level of load."""
        return [int(n) for n in re.findall(rf"^ *{label}: (\d+)\b", self.text, re.MULTILINE)]

    def server_us(self) -> list[dict[str, int]]:
        """What the server's statistics have told it of a request of each level, in µs."""
        found = re.findall(r"^ *Avg request latency: (\d+) usec \((.*)\)$", self.text, re.MULTILINE)
        parts = r"(overhead|queue|compute input|compute infer|compute output) (\d+) usec"
        return [
            {"all": int(whole), **{name: int(us) for name, us in re.findall(parts, rest)}}
            for whole, rest in found
        ]


def begin(program: Program, address: str, model: str, *options: str) -> subprocess.Popen[str]:
    command = [program.path, "-i", "grpc", "-u", address, "-m", model, *ENOUGH, *options]
    return subprocess.Popen(
        command,
        env=program.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def report_of(process: subprocess.Popen[str]) -> Report:
    with process:
        try:
            text, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Report(process.returncode, text)


def find() -> Program:
    """Raises load_generator.Unavailable."""
    return load_generator.find(FOLDER)
