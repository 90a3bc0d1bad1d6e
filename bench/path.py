"""Where the microseconds of one streamed step go, inside the server and without the wire.

    python -m bench.path

Each stage is everything before it and one thing more, so differences tell. `hot` is the processor
time of a step in a tight loop; `cold` the time of one that comes after 2 ms of silence, as a step
does that comes alone: caches and clock speed have gone elsewhere meanwhile. Prints a table and
rewrites its part of docs/benchmarks.md.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import track

from bench import engine, report, repository
from bench.load import messages
from rnnserve.v1 import session_pb2 as pb
from server.config import LimitsConfig
from server.repository.load import load
from server.rpc import actions
from server.rpc.session_stream import SessionStream
from server.serving import ServedModel, Serving, limits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

HIDDEN = 64
MODEL = f"lstm{HIDDEN}"
ROUNDS = 15
HOT_STEPS, COLD_STEPS = 200, 20
SILENCE_S = 0.002


class NoEngine:
    """Stands where the engine is and has its answer ready."""

    def run(self, *_: Any) -> Mapping[str, NDArray[np.float32]]:
        return {"hidden": np.zeros((1, 1, HIDDEN), np.float32)}


class Answer:
    """Takes the answer as a stream would."""

    def fill(self, message: pb.StreamResponse) -> None:
        self.contents = message.SerializeToString()


async def stages(models: Path) -> dict[str, Callable[[], object]]:
    """What the server does with the bytes of a step, more and more of it."""
    opening, step, _ = messages(MODEL)
    serving, idle = _stream(models, NoEngine())
    _, running = _stream(models, engine.load_engine(models, MODEL))
    answer = Answer()
    for stream in (idle, running):
        stream.handle(pb.StreamRequest.FromString(opening), answer)  # type: ignore[arg-type]
    await asyncio.sleep(0.1)
    (session,) = serving.sessions

    def parse() -> pb.StreamRequest:
        return pb.StreamRequest.FromString(step)

    return {
        "the message is parsed": parse,
        "… its step decoded and checked": lambda: actions.step(session, parse().step),
        "… queued, scheduled, committed, encoded": lambda: idle.handle(parse(), answer),  # type: ignore[arg-type]
        "… and run by ONNX Runtime": lambda: running.handle(parse(), answer),  # type: ignore[arg-type]
    }


def _stream(models: Path, engine: Any) -> tuple[Serving, SessionStream]:
    spec = load(models / MODEL)[0]
    serving = Serving(1000)
    limits = limits_of(spec, LimitsConfig(max_sessions=1000))
    serving.add(ServedModel(spec, engine, limits, serving.closed, own_thread=False))
    return serving, SessionStream(serving)


async def measure(models: Path, console: Console) -> dict[str, tuple[list[float], list[float]]]:
    """Hot and cold microseconds of each stage, of alternating rounds."""
    found = await stages(models)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in found}
    for _ in track(range(ROUNDS), "stages of a step", console=console):
        for name, stage in found.items():
            times[name][0].append(await _hot(stage))
            times[name][1].append(await _cold(stage))
    return times


async def _hot(stage: Callable[[], object]) -> float:
    start_s = time.thread_time()
    for _ in range(HOT_STEPS):
        stage()
        await asyncio.sleep(0)
    return (time.thread_time() - start_s) / HOT_STEPS * 1e6


async def _cold(stage: Callable[[], object]) -> float:
    passed = []
    for _ in range(COLD_STEPS):
        await asyncio.sleep(SILENCE_S)
        start_s = time.perf_counter()
        stage()
        passed.append((time.perf_counter() - start_s) * 1e6)
    return statistics.median(passed)


def main() -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        repository.write(models, [HIDDEN])
        times = asyncio.run(measure(models, console))
    lines = [
        f"`python -m bench.path`, {report.conditions()}.",
        "",
        "| a streamed step of one session, LSTM 64 | hot | cold |",
        "|---|---|---|",
        *(
            f"| {name} | {statistics.median(hot):.0f} µs | {statistics.median(cold):.0f} µs |"
            for name, (hot, cold) in times.items()
        ),
    ]
    console.print("\n".join(lines[2:]))
    report.replace("path", lines)
    console.print(f"wrote {report.PAGE}")


if __name__ == "__main__":
    main()
