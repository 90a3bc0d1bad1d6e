"""Proof that the server answers as plain ONNX Runtime does, before an entry is anybody's.

The staged entry is loaded by the server's own code. Two sessions run random steps on its engine,
now one, now the other, now both in one batch, each of one to five timesteps where there are such.
The same steps run in plain ONNX Runtime, whole, the states carried by hand.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.arrays import close, difference, equal, stacked
from inspection.errors import NotProven, Refused
from inspection.trial import TrialFailed, flag
from server.engine.engine import Engine
from server.errors import StartupError, StepFailed
from server.repository.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from inspection.arrays import Arrays
    from inspection.findings import Findings
    from server.repository.spec import ModelSpec

_STEPS = 16
_LONGEST = 5
_ROWS = 8  # of the arena: one to start from, two for each session, and some for the warm-up


@dataclass(slots=True)
class Proof:
    """What was run, and the largest difference seen (arrays.py)."""

    steps: int = 0
    together: int = 0
    pieces: int = 0
    timesteps: int = 0
    largest: float = 0.0

    def compare(self, name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
        """Raises NotProven where the two differ by more than rounding."""
        found = difference(ours, theirs)
        if not close(ours, theirs):
            shapes = f"shapes {list(ours.shape)} and {list(theirs.shape)}"
            what = shapes if ours.shape != theirs.shape else f"by {found:.3g}"
            raise NotProven(
                f"{name!r} differs between the server and plain ONNX Runtime ({what}) after"
                f" {self.steps} steps; nothing was written"
            )
        self.largest = max(self.largest, found)

    def __str__(self) -> str:
        how = [f"{self.together} of them in one batch"] if self.together else []
        how += [f"{self.timesteps} timesteps"] if self.timesteps else []
        how += [f"{self.pieces} cut into pieces"] if self.pieces else []
        told = f" ({', '.join(how)})" if how else ""
        return (
            f"two interleaved sessions, {self.steps} steps{told}: largest difference from plain"
            f" ONNX Runtime {self.largest:.2g}"
        )


@dataclass(slots=True)
class _Session:
    """One session on both sides: its row in the arena, and the states carried by hand."""

    row: int
    spare: int
    states: Arrays
    started: bool = field(default=False)

    @property
    def read(self) -> int:
        return self.row if self.started else 0

    def move_on(self) -> None:
        self.row, self.spare = (self.spare, self.row) if self.started else (self.row, self.spare)
        self.started = True

    @property
    def write(self) -> int:
        return self.spare if self.started else self.row


def prove(entry: Path, findings: Findings) -> Proof:
    """Raises Refused if the server does not load the entry, NotProven if its answers differ."""
    try:
        (spec,) = load(entry)
        with contextlib.redirect_stdout(io.StringIO()):  # an axis of size 1 may not run: no news
            engine = Engine(spec, provider="cpu", rows=_ROWS)
    except StartupError as error:
        text = str(error).removeprefix(f"{entry}/")
        raise Refused(f"{findings.model.path}: the server does not load it: {text}") from None
    runner = _Runner(findings, spec, engine)
    try:
        _check_repeats_itself(findings)
        return runner.run()
    except (StepFailed, TrialFailed) as error:
        text = str(error).removeprefix(f"model {spec.name!r} failed: ")
        raise NotProven(f"a step failed: {text}; nothing was written") from None


def _check_repeats_itself(findings: Findings) -> None:
    """Raises NotProven where the same step gives another answer each time it is run."""
    trial, sizes = findings.trial, findings.batch.sizes
    given = trial.draw(np.random.default_rng(5), sizes)
    (first, states), (second, again) = (trial.run(given, trial.zeros(sizes)) for _ in range(2))
    if not (equal(first, second) and equal(states, again)):
        raise NotProven(
            "the model gives another answer each time to the same input, perhaps it draws random"
            " numbers: nothing can be compared, and nothing was written"
        )


class _Runner:
    def __init__(self, findings: Findings, spec: ModelSpec, engine: Engine) -> None:
        self._findings, self._spec, self._engine = findings, spec, engine
        self._trial, self._time = findings.trial, findings.time
        self._rng = np.random.default_rng(7)
        self._proof = Proof()
        zeros = self._trial.zeros(findings.batch.sizes)
        self._sessions = [_Session(1, 2, dict(zeros)), _Session(3, 4, dict(zeros))]

    def run(self) -> Proof:
        for index in range(_STEPS):
            both = self._findings.batched and index % 3 == 2 and self._spec.max_batch_size > 1
            self._step(self._sessions if both else [self._sessions[self._rng.integers(0, 2)]])
        for session in self._sessions:
            self._compare_states(session)
        return self._proof

    def _step(self, sessions: list[_Session]) -> None:
        length = int(self._rng.integers(1, _LONGEST + 1)) if self._time.inputs else None
        sizes = dict(self._findings.batch.sizes)
        if length is not None:
            sizes[self._time.variable] = length
        given = [self._trial.draw(self._rng, sizes, length) for _ in sessions]
        first_steps = [not session.started for session in sessions]
        answers = self._serve(sessions, given, length)
        self._proof.steps += len(sessions)
        self._proof.together += len(sessions) if len(sessions) > 1 else 0
        self._proof.timesteps += (length or 0) * len(sessions)
        for index, (session, own) in enumerate(zip(sessions, given, strict=True)):
            first = first_steps[index]
            expected, session.states = self._trial.run(own, session.states, start=first)
            for name, array in expected.items():
                ours = answers[name][index : index + 1] if self._findings.batched else answers[name]
                self._proof.compare(name, ours, array)

    def _serve(
        self, sessions: list[_Session], given: list[Arrays], length: int | None
    ) -> dict[str, NDArray[Any]]:
        """The step on the engine, in two pieces where it may be cut and is long enough."""
        together = stacked(given, {}) if len(given) > 1 else given[0]
        if not (self._time.may_be_cut and length is not None and length > 1):
            return self._run(sessions, together)
        self._proof.pieces += 1
        cut = int(self._rng.integers(1, length))
        parts: list[Arrays] = [dict(together), dict(together)]
        for name, axis in self._time.inputs.items():
            pieces = np.split(together[name], [cut], axis)
            for part, piece in zip(parts, pieces, strict=True):
                part[name] = np.ascontiguousarray(piece)
        first, last = (self._run(sessions, part) for part in parts)
        return {
            name: np.concatenate([first[name], array], self._time.outputs[name])
            if name in self._time.outputs
            else array
            for name, array in last.items()
        }

    def _run(self, sessions: list[_Session], inputs: Arrays) -> dict[str, NDArray[Any]]:
        read = np.array([session.read for session in sessions], np.int64)
        write = np.array([session.write for session in sessions], np.int64)
        signal = self._trial.start
        if signal is not None:
            starts = [not session.started for session in sessions]
            inputs = {**inputs, signal.name: flag(signal, starts, len(sessions))}
        outputs = self._engine.run(inputs, read, write)
        for session in sessions:
            session.move_on()
        return outputs

    def _compare_states(self, session: _Session) -> None:
        if not session.started:
            return
        kept = self._engine.read(np.array([session.row], np.int64))
        for name, array in session.states.items():
            axes = self._findings.batch.axes
            row = array if axes is None else np.moveaxis(array, axes[name], 0)[0]
            self._proof.compare(name, kept[name][0], row)
