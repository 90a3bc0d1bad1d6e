"""Makes exercises.npz from the data set that the package seglearn brings.

    pip install seglearn numpy
    python models/data/make_exercises.py

The file holds 140 recordings, ordered by subject, side and exercise:

- `hundredths`: int16 (steps of all recordings, 6), one recording after the other, ten steps a
  second: acceleration along x, y, z in hundredths of g, then the rate of rotation about x, y, z in
  hundredths of rad/s,
- `lengths`: int64 (140,), the number of steps of each,
- `labels`: int64 (140,), the exercise, 0 to 6 as in the original,
- `subjects`: int64 (140,), the person, 1 to 10,
- `sides`: int64 (140,), the shoulder, 0 left, 1 right.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from seglearn.datasets import load_watch  # type: ignore[import-not-found]

TARGET = Path(__file__).with_name("exercises.npz")
SAMPLES_PER_STEP = 5  # of 50 a second


def main() -> None:
    """Writes the file beside this script."""
    watch = load_watch()
    order = np.lexsort([watch["y"], watch["side"], watch["subject"]])
    signals = [coarse(watch["X"][i]) for i in order]
    np.savez_compressed(
        TARGET,
        hundredths=np.concatenate(signals),
        lengths=np.array([len(signal) for signal in signals], dtype=np.int64),
        labels=watch["y"][order].astype(np.int64),
        subjects=watch["subject"][order].astype(np.int64),
        sides=watch["side"][order].astype(np.int64),
    )
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


def coarse(signal: Any) -> Any:
    """The means of each five samples of `signal (T, 6)`, in hundredths: int16 `(T // 5, 6)`."""
    steps = len(signal) // SAMPLES_PER_STEP
    samples = signal[: steps * SAMPLES_PER_STEP].reshape(steps, SAMPLES_PER_STEP, -1)
    return np.round(100 * samples.mean(axis=1)).astype(np.int16)


if __name__ == "__main__":
    main()
