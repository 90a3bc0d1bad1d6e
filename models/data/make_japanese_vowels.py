"""Makes japanese_vowels.npz from the copy of the data set that the package aeon brings.

    pip install aeon numpy
    python models/data/make_japanese_vowels.py

The file holds, for each of train and test (270 and 370 utterances):

- `<split>_frames`: float32 (frames of all utterances, 12), one utterance after the other,
- `<split>_lengths`: int64 (utterances,), the number of frames of each,
- `<split>_labels`: int64 (utterances,), the speaker, 0 to 8.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from aeon.datasets import load_japanese_vowels  # type: ignore[import-not-found]

TARGET = Path(__file__).with_name("japanese_vowels.npz")


def main() -> None:
    """Writes the file beside this script."""
    arrays: dict[str, Any] = {}
    for split in ("train", "test"):
        utterances, speakers = load_japanese_vowels(split=split)
        frames = [utterance.T for utterance in utterances]  # aeon has (coefficients, time)
        arrays[f"{split}_frames"] = np.concatenate(frames).astype(np.float32)
        arrays[f"{split}_lengths"] = np.array([len(f) for f in frames], dtype=np.int64)
        arrays[f"{split}_labels"] = np.array([int(s) - 1 for s in speakers], dtype=np.int64)
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
