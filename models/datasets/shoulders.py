"""Shoulder exercises as a smartwatch feels them: which exercise is it, at every moment?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.datasets.files import arrays

if TYPE_CHECKING:
    from models.datasets.sequences import Array

EXERCISES = (
    "pendulum",
    "abduction",
    "forward elevation",
    "internal rotation",
    "external rotation",
    "lower trapezius row",
    "bent over row",
)
"""A class's name is at its number here."""

RATE_HZ = 10
SHORTEST_STRETCH = 5 * RATE_HZ  # steps of one exercise at a time
LONGEST_STRETCH = 15 * RATE_HZ

TRAIN_SUBJECTS = (1, 2, 3, 4, 5, 6)
VALIDATION_SUBJECTS = (7,)
TEST_SUBJECTS = (8, 9, 10)


@dataclass(frozen=True)
class Sessions:
    """People who go from one exercise to the next.

    `frames`: float32 `(N, T, 6)`, ten steps a second: acceleration along x, y, z in g, then the
    rate of rotation about x, y, z in rad/s. `labels`: int64 `(N, T)`, places in EXERCISES.
    `subjects`: int64 `(N,)`, who it is, 1 to 10.
    """

    frames: Array
    labels: Array
    subjects: Array

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, indices: Array) -> Sessions:
        """The sessions at `indices`, in that order."""
        return Sessions(self.frames[indices], self.labels[indices], self.subjects[indices])


def exercises(
    steps: int = 300, rounds: int = 4, seed: int = 0
) -> tuple[Sessions, Sessions, Sessions]:
    """(train, validation, test): sessions of `steps` tenths of a second, of different people.

    A recording has one exercise only, so sessions are put together here: the seven recordings of
    one shoulder are cut into stretches of 5 to 15 seconds (the last of a recording: up to 20),
    these are shuffled and laid end to end, and that is cut into sessions; what is left over, less
    than `steps`, is dropped. In train this is done `rounds` times over, each with other cuts; in
    the others every recorded step is used once at most. `seed` draws the sessions of train; those
    of the others are always the same.

    Source and licence: data/README.md. Raises ValueError where `steps` is more than a shoulder has.
    """
    return (
        _part(TRAIN_SUBJECTS, steps, rounds, seed),
        _part(VALIDATION_SUBJECTS, steps, rounds=1, seed=0),
        _part(TEST_SUBJECTS, steps, rounds=1, seed=0),
    )


def _part(subjects: tuple[int, ...], steps: int, rounds: int, seed: int) -> Sessions:
    """`rounds` times all the recordings of these people."""
    random = np.random.default_rng(seed)
    made = [
        _sessions(recordings, subject, steps, random)
        for (subject, _), recordings in _shoulders().items()
        if subject in subjects
        for _ in range(rounds)
    ]
    return Sessions(
        np.concatenate([sessions.frames for sessions in made]),
        np.concatenate([sessions.labels for sessions in made]),
        np.concatenate([sessions.subjects for sessions in made]),
    )


def _shoulders() -> dict[tuple[int, int], list[tuple[Array, int]]]:
    """By (subject, side): the recordings of that shoulder, each as frames `(T, 6)` and label."""
    file = arrays("exercises.npz")
    frames = np.split(file["hundredths"].astype(np.float32) / 100, np.cumsum(file["lengths"])[:-1])
    shoulders: dict[tuple[int, int], list[tuple[Array, int]]] = {}
    for signal, label, subject, side in zip(
        frames, file["labels"], file["subjects"], file["sides"], strict=True
    ):
        shoulders.setdefault((int(subject), int(side)), []).append((signal, int(label)))
    return shoulders


def _sessions(
    recordings: list[tuple[Array, int]], subject: int, steps: int, random: np.random.Generator
) -> Sessions:
    """All of one shoulder's `recordings`, mixed."""
    stretches = [
        (stretch, np.full(len(stretch), label, dtype=np.int64))
        for frames, label in recordings
        for stretch in np.split(frames, _cuts(len(frames), random))
    ]
    order = random.permutation(len(stretches))
    frames = np.concatenate([stretches[i][0] for i in order])
    labels = np.concatenate([stretches[i][1] for i in order])
    count = len(frames) // steps
    if count == 0:
        raise ValueError(f"steps is {steps}; a shoulder has {len(frames)} only: ask for fewer.")
    return Sessions(
        frames[: count * steps].reshape(count, steps, -1),
        labels[: count * steps].reshape(count, steps),
        np.full(count, subject, dtype=np.int64),
    )


def _cuts(length: int, random: np.random.Generator) -> list[int]:
    """Where to cut a recording of `length` steps: no stretch is shorter than the shortest."""
    cuts: list[int] = []
    cut = 0
    while True:
        cut += int(random.integers(SHORTEST_STRETCH, LONGEST_STRETCH, endpoint=True))
        if cut > length - SHORTEST_STRETCH:
            return cuts
        cuts.append(cut)
