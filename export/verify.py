"""The proof: the exported graph computes what the torch model computes, however it is run.

Reference is each sequence run whole, alone, in torch. Against it, in ONNX Runtime:

- `whole`: each sequence alone, in one run
- `steps`: alone, timestep by timestep, the states carried by hand
- `strangers`: timestep by timestep, in batches that are different at every step in size, members
  and order: what a session sees when it is served
- `chunks`: the same with several timesteps at once, a random number of them

for the output and every state. The sequences have different lengths; the random ones start, every
other one, from a random state instead of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch

from export.proof import Proof, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import models
    from export.description import Array
    from export.proof import Row
    from export.signature import Signature

LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34)  # timesteps of the random sequences
MAX_CHUNK = 7

Turn = tuple[list[int], int]  # who runs together, and for how many timesteps


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One session: frames (time, features) and its first states, (units,) each."""

    frames: Array
    states: tuple[Array, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What a case gave: the output (time, width) and the last states, (units,) each."""

    output: Array
    states: tuple[Array, ...]


def verify(
    model: models.Sequential,
    onnx_model: str | bytes,
    signature: Signature,
    real: Sequence[Array] = (),
    seed: int = 0,
    progress: Callable[[str], None] = lambda comparison: None,
) -> Proof:
    """Run all comparisons.

    Args:
        model: the torch model.
        onnx_model: path or bytes of the graph, which runs on the CPU in one thread.
        signature: of that graph.
        real: inputs from the model's data set, (time, features) or (features,), if there are any.
        seed: of the random sequences, states, batches and chunks.
        progress: called with the name of each comparison before it begins.
    """
    rng = np.random.default_rng(seed)
    session = _session(onnx_model)
    rows: list[Row] = []
    sources = {"random": random_cases(signature, rng)}
    if real:
        width = signature.input.width
        sources["real data"] = [Case(x.reshape(-1, width), _zeros(signature)) for x in real]
    for source, cases in sources.items():
        expected = [_play_torch(model, signature, case) for case in cases]
        for name, schedule in SCHEDULES.items():
            comparison = f"{name}, {source}"
            progress(comparison)
            turns = schedule([len(case.frames) for case in cases], rng)
            played = play(session, signature, cases, turns)
            rows += _compare(comparison, signature, expected, played)
    return Proof(tuple(rows))


def random_cases(signature: Signature, rng: np.random.Generator) -> list[Case]:
    """Standard normal sequences of every length in `LENGTHS`."""
    cases = []
    for index, length in enumerate(LENGTHS):
        states = _zeros(signature)
        if index % 2:
            states = tuple(_uniform(rng, state.shape) for state in states)
        frames = rng.standard_normal((length, signature.input.width), np.float32)
        cases.append(Case(frames, states))
    return cases


def play(
    session: onnxruntime.InferenceSession,
    signature: Signature,
    cases: Sequence[Case],
    turns: Iterable[Turn],
) -> list[Played]:
    """Run the cases through the graph in the given turns, carrying their states by hand."""
    names = [signature.output.name, *(state.output for state in signature.states)]
    outputs: list[list[Array]] = [[] for _ in cases]
    states = [case.states for case in cases]
    done = [0 for _ in cases]
    for members, length in turns:
        frames = [cases[i].frames[done[i] : done[i] + length] for i in members]
        feed = {signature.input.name: _batch(signature, np.stack(frames))}
        for place, state in enumerate(signature.states):
            feed[state.name] = np.stack([states[i][place] for i in members])
        output, *after = session.run(names, feed)
        output = output.reshape(len(members), length, signature.output.width)
        for row, i in enumerate(members):
            outputs[i].append(output[row])
            states[i] = tuple(state[row] for state in after)
            done[i] += length
    return [Played(np.concatenate(o), s) for o, s in zip(outputs, states, strict=True)]


def _batch(signature: Signature, frames: Array) -> Array:
    """(sessions, time, features) as the model takes it: without a time axis, as so many rows."""
    return frames if signature.input.time else frames.reshape(-1, signature.input.width)


def _whole(lengths: Sequence[int], rng: np.random.Generator) -> Iterator[Turn]:
    return (([i], length) for i, length in enumerate(lengths))


def _steps(lengths: Sequence[int], rng: np.random.Generator) -> Iterator[Turn]:
    return (([i], 1) for i, length in enumerate(lengths) for _ in range(length))


def _strangers(lengths: Sequence[int], rng: np.random.Generator) -> Iterator[Turn]:
    return _mixed(lengths, rng, max_chunk=1)


def _chunks(lengths: Sequence[int], rng: np.random.Generator) -> Iterator[Turn]:
    return _mixed(lengths, rng, max_chunk=MAX_CHUNK)


def _mixed(lengths: Sequence[int], rng: np.random.Generator, max_chunk: int) -> Iterator[Turn]:
    """Until all are done: some of those that are not, in random order, for a random length."""
    left = dict(enumerate(lengths))
    while left:
        count = rng.integers(1, len(left) + 1)
        members = [int(i) for i in rng.choice(list(left), count, replace=False)]
        chunk = int(rng.integers(1, 1 + min(max_chunk, *(left[i] for i in members))))
        yield members, chunk
        for i in members:
            left[i] -= chunk
        left = {i: rest for i, rest in left.items() if rest}


SCHEDULES = {"whole": _whole, "steps": _steps, "strangers": _strangers, "chunks": _chunks}


def _play_torch(model: models.Sequential, signature: Signature, case: Case) -> Played:
    with torch.inference_mode():
        states = [torch.from_numpy(state[np.newaxis]) for state in case.states]
        inputs = torch.from_numpy(_batch(signature, case.frames[np.newaxis]))
        output, after = model.step(inputs, states)
    output = output.reshape(len(case.frames), signature.output.width)
    return Played(output.numpy(), tuple(state[0].numpy() for state in after))


def _compare(
    comparison: str, signature: Signature, expected: Sequence[Played], played: Sequence[Played]
) -> Iterator[Row]:
    pairs = [(e.output, p.output) for e, p in zip(expected, played, strict=True)]
    yield compare(comparison, signature.output.name, *zip(*pairs, strict=True))
    for place, state in enumerate(signature.states):
        yield compare(
            comparison,
            state.name,
            [e.states[place] for e in expected],
            [p.states[place] for p in played],
        )


def _session(onnx_model: str | bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx_model, options, ["CPUExecutionProvider"])


def _zeros(signature: Signature) -> tuple[Array, ...]:
    return tuple(np.zeros(state.units, np.float32) for state in signature.states)


def _uniform(rng: np.random.Generator, shape: tuple[Any, ...]) -> Array:
    return rng.uniform(-1, 1, shape).astype(np.float32)
