"""Japanese Vowels: short utterances of different lengths, to be told apart by speaker."""

from __future__ import annotations

import numpy as np

from models.datasets.files import arrays
from models.datasets.sequences import Split


def japanese_vowels() -> tuple[Split, Split]:
    """(train, test): 270 and 370 utterances of 7 to 29 frames with 12 cepstra, from 9 speakers.

    Source and licence: data/README.md.
    """
    file = arrays("japanese_vowels.npz")
    train, test = (
        Split(
            np.split(file[f"{name}_frames"], np.cumsum(file[f"{name}_lengths"])[:-1]),
            file[f"{name}_labels"],
        )
        for name in ("train", "test")
    )
    return train, test
