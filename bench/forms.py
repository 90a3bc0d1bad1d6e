"""The ONNX forms of a recurrent layer against each other, on the CPU in one thread.

    python -m bench.forms

`native` is one LSTM or GRU node (`rnnserve export --target cpu`), `loop` a Scan over a decomposed
step (what `--target cuda` takes for gates that cuDNN does not have), `one step` the step without a
loop (`--one-step`). All forms of a layer take turns, so that whatever else the machine does falls
on all. Prints a table and rewrites its part of docs/benchmarks.md.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from rich.console import Console
from rich.progress import track

import export
import models
from bench import report
from bench.shapes import FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 25
ROUND_S = 0.004  # of each form in a round
SHAPES = [(1, 1), (8, 1), (64, 1), (1, 20), (8, 20), (64, 20)]  # batch, timesteps
LAYERS: dict[str, Callable[[int], models.RNN]] = {
    "LSTM": lambda units: models.LSTM(units, return_sequences=True),
    "GRU": lambda units: models.GRU(units, return_sequences=True),
}
FORMS: dict[str, dict[str, Any]] = {
    "native": {"target": "cpu"},
    "loop": {"target": "cuda"},
    "one step": {"target": "cuda", "one_step": True},
}
TITLE = "Time over the native node's, medians of alternating rounds"


def main() -> None:
    console, rows = Console(), []
    for name, layer in LAYERS.items():
        for units in (32, 128):
            sessions = _sessions(layer(units))
            for batch, timesteps in track(SHAPES, f"{name}, {units} units", console=console):
                what = f"{name} {units}, batch {batch}, {timesteps} steps"
                rows += _compare(what, sessions, batch, timesteps)
    report.show(console, rows, TITLE)
    head = f"`python -m bench.forms`, {report.conditions()}, one thread."
    report.replace("forms", [head, "", *report.table(rows)])
    console.print(f"wrote {report.PAGE}")


def _sessions(layer: models.RNN) -> dict[str, onnxruntime.InferenceSession]:
    torch.manual_seed(0)
    layer.build((None, None, FEATURES))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return {
        form: onnxruntime.InferenceSession(
            export.to_onnx(layer, **chosen).SerializeToString(), options, ["CPUExecutionProvider"]
        )
        for form, chosen in FORMS.items()
    }


def _compare(
    what: str, sessions: dict[str, onnxruntime.InferenceSession], batch: int, timesteps: int
) -> list[report.Row]:
    usable = {f: s for f, s in sessions.items() if f != "one step" or timesteps == 1}
    feed = _feed(sessions["native"], batch, timesteps)
    times: dict[str, list[float]] = {form: [] for form in usable}
    for _ in range(ROUNDS):
        for form, session in usable.items():
            times[form].append(_time(session, feed))
    return [
        report.Row(
            f"{what}, {form}",
            [ours / native for ours, native in zip(times[form], times["native"], strict=True)],
            "",
            f"{_us(times[form])} over {_us(times['native'])}",
        )
        for form in usable
        if form != "native"
    ]


def _feed(session: onnxruntime.InferenceSession, batch: int, timesteps: int) -> dict[str, Any]:
    sizes = {"batch": batch, "time": timesteps}
    rng = np.random.default_rng(0)
    return {
        value.name: rng.standard_normal([sizes.get(n, n) for n in value.shape]).astype(np.float32)
        for value in session.get_inputs()
    }


def _time(session: onnxruntime.InferenceSession, feed: dict[str, Any]) -> float:
    """Seconds of one run."""
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < ROUND_S or not count:
        session.run(None, feed)
        count += 1
    return passed / count


def _us(times: list[float]) -> str:
    return f"{1e6 * statistics.median(times):.0f} µs"


if __name__ == "__main__":
    main()
