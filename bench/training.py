"""Training speed: our layers against torch's, Keras 3's on torch and tf_keras', in one run.

    python -m bench.training [PYTHON_WITH_KERAS_AND_TF_KERAS]

Every contender is a process of its own; they take turns, a step at a time, so that whatever else
the machine does falls on all. Prints a table and rewrites its part of docs/benchmarks.md. Timings
are reported, never judged: the exit code is 0.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from bench import contender, report

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 15
PEERS = ("keras", "tf_keras")
WANTED = {"torch": "≥ 0.95", "keras": "> 1", "tf_keras": "> 1"}
NAMES = {"torch": "torch.nn", "keras": "Keras 3 on torch", "tf_keras": "tf_keras"}
TITLE = "Medians of alternating rounds: their time over ours"


def main() -> None:
    peers = sys.argv[1] if len(sys.argv) > 1 else None
    console, rows = Console(), []
    for layer in contender.OPTIONS:
        frameworks = {"ours": sys.executable}
        if layer.endswith(" sigmoid"):
            frameworks["torch"] = sys.executable  # which has no other gates
        if peers is not None:
            frameworks |= dict.fromkeys(PEERS, peers)
        rows += _compare(layer, frameworks, console)
    report.show(console, rows, TITLE)
    head = f"`make bench-training`, {report.conditions()}."
    report.replace("training", [head, "", *report.table(rows)])
    console.print(f"wrote {report.PAGE}")


def _compare(layer: str, frameworks: dict[str, str], console: Console) -> list[report.Row]:
    """Our speed over that of each of the others."""
    times: dict[str, list[float]] = {name: [] for name in frameworks}
    with ExitStack() as stack:
        steps = {
            name: stack.enter_context(_process(python, name, layer))
            for name, python in frameworks.items()
        }
        for _ in track(range(ROUNDS), f"{layer:<20}", console=console, transient=True):
            for name, process in steps.items():
                times[name].append(_step(process))
    return [
        report.Row(
            f"{layer}, {NAMES[name]}",
            [theirs / ours for theirs, ours in zip(times[name], times["ours"], strict=True)],
            WANTED[name],
            f"{_ms(times[name])} over {_ms(times['ours'])}",
        )
        for name in frameworks
        if name != "ours"
    ]


@contextmanager
def _process(python: str, framework: str, layer: str) -> Iterator[subprocess.Popen[str]]:
    command = [python, str(Path(contender.__file__)), framework, layer]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        while (line := process.stdout.readline()) != "ready\n":
            if not line:
                raise SystemExit(f"{' '.join(command)} ended with code {process.wait()}")
        yield process
        process.stdin.close()


def _step(process: subprocess.Popen[str]) -> float:
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def _ms(times: list[float]) -> str:
    return f"{1e3 * statistics.median(times):.1f} ms"


if __name__ == "__main__":
    main()
