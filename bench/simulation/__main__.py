"""The scheduler under a virtual clock, beside systems that pad: see docs/scheduling.md."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.simulation import fleet, page, plot, studies, trial
from bench.simulation.studies import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    Question = TypeVar("Question")
    Answer = TypeVar("Answer")

SHOWN = [
    Machine("lstm64", "heavy tail"),
    Machine("lstm256", "heavy tail"),
    Machine("synthetic GPU", "sentences"),
]
BOUNDS = [
    Machine("lstm64, engine only", "heavy tail"),
    Machine("lstm256, engine only", "heavy tail"),
]
CHUNK_SIZES = {SHOWN[0]: 8, SHOWN[1]: 8, SHOWN[2]: 512}
EPILOG = """\
examples:
  python -m bench.simulation                 everything from the costs that are stored; some minutes
  python -m bench.simulation measure         what runs cost on this machine, into measured.json
  python -m bench.simulation fleet --sessions 200000 --replicas 16
"""


class Pool:
    """Asks questions in several processes, and shows how many have been answered."""

    def __init__(self, executor: ProcessPoolExecutor, progress: Progress) -> None:
        self._executor, self._progress = executor, progress
        self._task = progress.add_task("", total=None)

    def begin(self, what: str, total: int | None = None) -> None:
        if total is not None:
            self._progress.reset(self._task, total=total)
        self._progress.update(self._task, description=what)

    def done(self) -> None:
        self._progress.advance(self._task)

    def ask(
        self, function: Callable[[Question], Answer], questions: Sequence[Question]
    ) -> list[Answer]:
        answers = []
        for answer in self._executor.map(function, questions):
            self.done()
            answers.append(answer)
        return answers


def main() -> None:
    given = _arguments()
    console = Console()
    context = multiprocessing.get_context("spawn")  # the progress bar is a thread
    with (
        ProcessPoolExecutor(os.cpu_count(), context) as executor,
        _progress(console) as progress,
    ):
        pool = Pool(executor, progress)
        if given.what == "measure":
            _measure(pool)
            return
        if given.what == "fleet":
            console.print(Markdown("\n".join(_fleets(pool, given.sessions, [given.replicas]))))
            return
        for part, lines in _everything(pool):
            console.print(Markdown("\n".join(lines)))
            page.replace(part, lines)
        console.print(f"wrote {page.PAGE} and {plot.PICTURE}")


def _measure(pool: Pool) -> None:
    from bench.simulation import measure  # which loads torch

    pool.begin("measuring", measure.rounds())
    measure.measure(pool.begin, pool.done)


def _everything(pool: Pool) -> Iterator[tuple[str, list[str]]]:
    """The parts of the page, as they get ready."""

    def run(trials: Sequence[trial.Trial]) -> list[trial.Figures]:
        return pool.ask(trial.run, trials)

    machines = [*SHOWN, *BOUNDS]
    pool.begin("", studies.count_trials(len(machines), len(SHOWN), len(CHUNK_SIZES)))
    found = {}
    for machine in machines:
        pool.begin(f"{machine.cost}, {machine.lengths}")
        found[machine] = studies.sweeps(run, machine, studies.ALL_SYSTEMS)
    shown = {machine: found[machine] for machine in SHOWN}
    plot.draw(plot.PICTURE, shown)
    yield "equal p90", [page.source(), "", *page.equal_p90(found)]
    yield "equal load", page.equal_load(shown)
    yield "capacities", page.capacities(shown)
    pool.begin("sessions that come back")
    back = {machine: studies.comes_back(run, machine, found[machine]) for machine in SHOWN}
    yield "returning", page.returning(back)
    pool.begin("chunks")
    chunks = {m: (size, studies.chunks(run, m, size)) for m, size in CHUNK_SIZES.items()}
    yield "chunks", page.chunks(chunks)
    yield "fleet", _fleets(pool, 1_000_000, [64, 256])


def _fleets(pool: Pool, sessions: int, replicas: list[int]) -> list[str]:
    few = replicas[0]
    scenarios = [
        *(fleet.Scenario("all well", sessions, count) for count in replicas),
        fleet.Scenario("one takes twice as long", sessions, few, slow=1),
        fleet.Scenario("one fails", sessions, few, failing=True),
    ]
    total = sum(s.replicas + s.failing for s in scenarios)
    pool.begin("", total)
    answers = {}
    for scenario in scenarios:
        pool.begin(f"{scenario.sessions:,} sessions, {scenario.replicas} replicas")
        answers[scenario] = fleet.run(scenario, lambda shares: pool.ask(fleet.serve, shares))
    return page.fleet(answers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.simulation",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=["all", "measure", "fleet"],
        default="all",
        help="all (default): simulate, write docs/scheduling.md and its picture; measure: the "
        "costs that the simulation uses; fleet: only the replicas, printed and not written",
    )
    parser.add_argument("--sessions", type=int, default=1_000_000, help="of fleet (%(default)s)")
    parser.add_argument("--replicas", type=int, default=64, help="of fleet (%(default)s)")
    return parser.parse_args()


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
