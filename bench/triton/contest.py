"""The servers that are compared, what was measured on them, and the rows that come of it."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from bench.report import Row
from bench.triton import frames, perf_analyzer
from bench.triton.cost import Cost, Spent, us_per_step
from bench.triton.figures import Failed, Figures
from bench.triton.peer import TritonProcess
from bench.triton.plan import COMPARISONS, MODEL, SERVE_OPTIONS, TRITON, Comparison, Load
from demo.server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from bench.triton.environment import Environment
    from bench.triton.plan import Field

    Server = ServerProcess | TritonProcess

TRIES = 3
FRAMES_S = 3.0


class Contest:
    """All servers at once, each with the entry `plan.MODEL` of the repository `models`.

    One that takes something else's place, because that is not installed, is left out; `notes` says
    so. Raises Unavailable or ServerFailed if one does not start.
    """

    def __init__(self, environment: Environment, models: Path, scratch: Path) -> None:
        self._environment = environment
        self._logs = {name: scratch / f"server-{i}.log" for i, name in enumerate(SERVE_OPTIONS)}
        self._servers: dict[str, Server] = {
            name: ServerProcess(models, self._logs[name], *options)
            for name, options in SERVE_OPTIONS.items()
        }
        self._servers[TRITON] = TritonProcess(environment, models, MODEL, scratch)
        self._measured: dict[tuple[str, Load], list[Figures]] = defaultdict(list)
        self._failures: Counter[str] = Counter()
        self._absent: list[str] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in self._servers.values():
                stack.enter_context(server)
            self._stack = stack.pop_all()
        for name, log in self._logs.items():
            if lacks := _lacks(log):
                del self._servers[name]  # the stack ends its process with the others
                self._absent.append(f"Not measured: {name}: {lacks}")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def names(self) -> set[str]:
        return set(self._servers)

    def address(self, name: str) -> str:
        return self._servers[name].grpc

    def measure(self, name: str, load: Load) -> None:
        """Adds a sample, after a failure on a fresh server. Raises Failed after some tries."""
        for _ in range(TRIES):
            try:
                self._measured[name, load].append(self._once(name, load))
            except Failed as failure:
                self._failures[f"{name}, {load}: {failure}"] += 1
                last = failure
                self._servers[name].__exit__(None, None, None)
                self._servers[name].__enter__()
            else:
                return
        raise last

    def rows(self) -> list[Row]:
        """The comparisons of the servers that are there."""
        return [self._row(c) for c in COMPARISONS if c.name in self._servers]

    def costs(self) -> list[Cost]:
        """What each load of perf_analyzer cost, load by load."""
        measured = [(load, name) for name, load in self._measured if load.how != "frames"]
        measured.sort(key=lambda of: (of[0].how, of[0].sessions))
        return [
            Cost(
                str(load),
                name,
                statistics.median(self._samples(name, load, "server_us")),
                statistics.median(self._samples(name, load, "client_us")),
            )
            for load, name in measured
        ]

    def notes(self) -> list[str]:
        """What could not be measured, and what went wrong."""
        again = [f"Tried again on a fresh server ({n}): {why}" for why, n in self._failures.items()]
        return [*self._absent, *again]

    def _once(self, name: str, load: Load) -> Figures:
        server = self._servers[name]
        if load.how == "frames":
            return frames.measure_apart(server.grpc, MODEL, load.sessions, FRAMES_S)
        before = Spent.so_far(server.pid, server.grpc, MODEL)
        figures = perf_analyzer.measure(
            self._environment, server.grpc, MODEL, load.sessions, streamed=load.how == "streamed"
        )
        after = Spent.so_far(server.pid, server.grpc, MODEL)
        server_us, client_us = us_per_step(before, after)
        return replace(figures, server_us=server_us, client_us=client_us)

    def _row(self, comparison: Comparison) -> Row:
        field = comparison.field
        ours = self._samples(comparison.name, comparison.load, field)
        theirs = self._samples(TRITON, comparison.theirs, field)
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        unit = " µs" if field == "p50_us" else "/s"
        details = " over ".join(f"{statistics.median(s):,.0f}{unit}" for s in (ours, theirs))
        return Row(comparison.what, ratios, comparison.wanted, details)

    def _samples(self, name: str, load: Load, field: Field) -> list[float]:
        return [getattr(figures, field) for figures in self._measured[name, load]]


def _lacks(log: Path) -> str:
    """What a server of ours says that it does without, and how to get it."""
    events = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return "; ".join(f"{e['event']}: {e['install']}" for e in events if "install" in e)
