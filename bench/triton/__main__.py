"""rnnserve beside a real Triton server, both driven by the same perf_analyzer, in turns.

    python -m bench.triton .venv-triton

`make bench-triton` makes that environment. Triton is the server inside nvidia-pytriton, with its
Python backend, in which bench/triton/model.py runs the same ONNX file with the same version of ONNX
Runtime and keeps the states; perf_analyzer is the one inside tritonclient 2.41.

First both servers must answer the same to the same sequences. Then each load runs for three seconds
on one after the other, round by round. Prints a table and rewrites its part of docs/benchmarks.md.
Timings are reported, never judged: the exit code is 0 unless something is missing, or the servers
disagree.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench import report, repository
from bench.libraries import Unavailable
from bench.triton import agreement
from bench.triton.contest import Contest
from bench.triton.environment import Environment
from bench.triton.figures import Failed
from bench.triton.plan import MODEL, TRITON, turns
from demo.server_process import ServerFailed

if TYPE_CHECKING:
    from bench.triton.cost import Cost

CORES = os.cpu_count() or 1
TITLE = "Medians of alternating rounds: rnnserve over Triton"
COSTS = "Processor time of a step, and the rate at which it and perf_analyzer's fill the machine"
COLUMNS = ["load", "server", "server's", "perf_analyzer's", f"{CORES} cores full at"]


def main() -> None:
    given = _arguments()
    console = Console()
    try:
        with tempfile.TemporaryDirectory() as folder:
            environment = Environment(given.environment, Path(folder))
            environment.check()
            models = Path(folder) / "models"
            repository.write(models, [int(MODEL.removeprefix("lstm"))])
            with Contest(environment, models, Path(folder)) as contest:
                _run(contest, given.rounds, console)
    except (Unavailable, ServerFailed, agreement.Disagree, Failed) as error:
        raise SystemExit(f"bench.triton: {error}") from None
    report.show(console, contest.rows(), TITLE)
    _show_costs(console, contest.costs())
    console.print(*contest.notes(), sep="\n", markup=False)
    _write(environment, contest)
    console.print(f"wrote {report.PAGE}")


def _run(contest: Contest, rounds: int, console: Console) -> None:
    triton = contest.address(TRITON)
    for name in sorted(contest.names - {TRITON}):
        difference = agreement.check(contest.address(name), triton, MODEL)
        console.print(f"{name} and Triton answer the same, within {difference:.1g}")
    todo = [turn for _ in range(rounds) for turn in turns(contest.names)]
    for name, load in track(todo, "measuring", console=console, transient=True):
        contest.measure(name, load)


def _show_costs(console: Console, costs: list[Cost]) -> None:
    table = Table(title=f"\n{COSTS}", title_justify="left")
    for i, heading in enumerate(COLUMNS):
        table.add_column(heading, justify="left" if i < 2 else "right")
    for cost in costs:
        table.add_row(*_cells(cost))
    console.print(table)


def _cells(cost: Cost) -> list[str]:
    times = (cost.server_us, cost.client_us)
    return [
        *(cost.load, cost.server, *(f"{us:.0f} µs" for us in times)),
        f"{cost.steps_per_s(CORES):,.0f}/s",
    ]


def _write(environment: Environment, contest: Contest) -> None:
    head = (
        f"`make bench-triton`, {report.conditions()}, ONNX Runtime {version('onnxruntime-gpu')}; "
        f"nvidia-pytriton {environment.pytriton} with Python {environment.python} and ONNX Runtime "
        f"{environment.onnxruntime}; perf_analyzer {environment.perf_analyzer_version}."
    )
    costs = [COLUMNS, ["---"] * len(COLUMNS), *(_cells(cost) for cost in contest.costs())]
    lines = [
        *(head, "", *report.table(contest.rows())),
        *("", f"{COSTS}:", "", *(f"| {' | '.join(cells)} |" for cells in costs)),
        *(f"\n{note}" for note in contest.notes()),
    ]
    report.replace("triton", lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.triton",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("environment", type=Path, help="the peer's virtual environment")
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each load (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
