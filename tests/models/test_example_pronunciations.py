"""Spelling → phonemes: what is learnt, how it is judged, and what the model says by itself."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import runs
from models.datasets import LETTERS, PHONEMES, Lexicon, pronunciations, spelled
from models.datasets.dictionary import NUMBERS
from models.examples.edit_distance import edit_distance, error_rate
from models.examples.encoder_decoder import EncoderDecoder
from models.examples.pronunciations import (
    FULL_PRONUNCIATIONS,
    PRONUNCIATIONS,
    FullPronunciations,
    Pronunciations,
    Words,
    likeliest_phonemes,
    words,
)
from models.training import Random, train

if TYPE_CHECKING:
    from pathlib import Path

    from models.training.run import Outcome


@pytest.fixture(scope="module")
def data() -> tuple[Lexicon, Lexicon, Lexicon]:
    return pronunciations()


@pytest.fixture(scope="module")
def task(data: tuple[Lexicon, Lexicon, Lexicon]) -> Pronunciations:
    return Pronunciations(data, seed=0)


@pytest.fixture
def model() -> EncoderDecoder:
    """Untrained, with weights so large that what it says depends on the word."""
    model = EncoderDecoder(26, 39, units=12, embedding=5, dropout=0.5, name="small").eval()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(generator=generator)
        model.decoder.head.bias[model.decoder.boundary] = 2
    return model


def lexicon(*entries: str) -> Lexicon:
    """Of entries like "queen K W IY N"."""
    split = [entry.split() for entry in entries]
    return Lexicon(
        [word for word, *_ in split],
        [spelled(word) for word, *_ in split],
        [np.array([NUMBERS[sound] for sound in sounds]) for _, *sounds in split],
    )


FEW = lexicon("ax AE K S", "queen K W IY N", "zephyr Z EH F ER", "rhythm R IH DH AH M")


# Edit distance


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [
        ("", "", 0),
        ("same", "same", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),  # k → s, e → i, + g
        ("flaw", "lawn", 2),  # - f, + n
        ("intention", "execution", 5),
        ("ab", "ba", 2),  # swapping two is no edit of its own
    ],
)
def test_edit_distance(one: str, other: str, edits: int) -> None:
    assert edit_distance(one, other) == edits


@cache
def defined(one: str, other: str) -> int:
    """The edit distance as it is defined: by the first symbols and what is left without them."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        defined(one[1:], other[1:]) + (one[0] != other[0]),
        defined(one[1:], other) + 1,
        defined(one, other[1:]) + 1,
    )


@settings(deadline=None)
@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_edit_distance_is_as_defined(one: str, other: str) -> None:
    assert edit_distance(one, other) == defined(one, other)


def test_the_error_rate_is_of_all_phonemes_not_of_words() -> None:
    """One insertion and two substitutions for two and four phonemes."""
    assert error_rate([[7], [1, 9, 9, 4]], [[7, 8], [1, 2, 3, 4]]) == 3 / 6


# The model


def test_the_encoder_reads_the_last_letter_first(model: EncoderDecoder) -> None:
    """So the first letter is the last thing it sees: its LSTM's step from all the others."""
    source = torch.tensor([spelled("queen").tolist()])
    first = model.vectors(source)[:, 0]
    _, states = model.encoder.cell.call(first, model.encode(source[:, 1:]))
    torch.testing.assert_close(model.encode(source), states)


def test_padding_may_be_anything(model: EncoderDecoder) -> None:
    batch = words(FEW)
    other = torch.where(batch.letters_mask, batch.letters, 17)
    alone = [model.encode(torch.from_numpy(letters)[None]) for letters in FEW.letters]

    h, c = model.encode(batch.letters, batch.letters_mask)
    torch.testing.assert_close(h, torch.cat([h for h, _ in alone]))
    torch.testing.assert_close(c, torch.cat([c for _, c in alone]))
    assert torch.equal(h, model.encode(other, batch.letters_mask)[0])
    assert not torch.equal(h, model.encode(other)[0])


def test_decoding_all_at_once_is_decoding_step_by_step(model: EncoderDecoder) -> None:
    source, previous = torch.randint(26, (3, 6)), torch.randint(40, (3, 5))
    states = model.encode(source)
    whole, final = model.decoder(previous, states)

    for step in range(5):
        logits, states = model.decoder(previous[:, step : step + 1], states)
        torch.testing.assert_close(logits[:, 0], whole[:, step])
    torch.testing.assert_close(states, final)


def test_greedy_is_choosing_step_by_step_with_carried_states(model: EncoderDecoder) -> None:
    """For each word alone, without padding."""
    everything = words(FEW)
    said = model(everything.letters, everything.letters_mask, limit=9)

    assert len({len(symbols) for symbols in said}) > 1, "or none goes on when others are done"
    for letters, symbols in zip(FEW.letters, said, strict=True):
        states = model.encode(torch.from_numpy(letters)[None])
        chosen, previous = [], model.decoder.boundary
        while len(chosen) < 9:
            logits, states = model.decoder(torch.tensor([[previous]]), states)
            previous = int(logits[0, -1].argmax())
            if previous == model.decoder.boundary:
                break
            chosen.append(previous)
        assert symbols.tolist() == chosen


def test_dropout_acts_in_training_only(model: EncoderDecoder) -> None:
    source = torch.tensor([spelled("zephyr").tolist()])
    assert torch.equal(model.encode(source)[0], model.encode(source)[0])
    model.train()
    assert not torch.equal(model.encode(source)[0], model.encode(source)[0])


def test_the_model_comes_back_from_its_run_folder(model: EncoderDecoder, tmp_path: Path) -> None:
    runs.save(tmp_path, model, "small", {})
    loaded = runs.load(tmp_path).model
    batch = words(FEW)

    assert isinstance(loaded, EncoderDecoder)
    assert loaded.get_config() == model.get_config()
    assert loaded.dropout == loaded.decoder.dropout == 0.5
    one, other = (m(batch.letters, batch.letters_mask) for m in (model, loaded))
    assert [symbols.tolist() for symbols in one] == [symbols.tolist() for symbols in other]


# What is measured


def test_padding_counts_nowhere(task: Pronunciations, model: EncoderDecoder) -> None:
    batch = words(FEW)
    other = replace(
        batch,
        letters=torch.where(batch.letters_mask, batch.letters, 9),
        phonemes=torch.where(batch.phonemes_mask, batch.phonemes, 21),
    )
    measured, again = task.measure(model, batch), task.measure(model, other)

    assert torch.equal(measured.loss, again.loss)
    assert measured.metric == again.metric
    assert measured.weight == again.weight == 3 + 4 + 4 + 5


def test_a_batch_is_the_mean_of_its_words(task: Pronunciations, model: EncoderDecoder) -> None:
    together = task.measure(model, words(FEW))
    alone = [task.measure(model, words(FEW.take(np.array([i])))) for i in range(len(FEW))]

    loss = sum(word.loss.item() * word.weight for word in alone) / together.weight
    error_rate = sum(word.metric * word.weight for word in alone) / together.weight
    assert together.loss.item() == pytest.approx(loss)
    assert together.metric == pytest.approx(error_rate)


def test_the_loss_of_knowing_nothing(task: Pronunciations) -> None:
    """Without weights all 40 symbols are equally likely, at five places for four phonemes."""
    model = EncoderDecoder(26, 39, units=4, embedding=2)
    model.set_weights([np.zeros(weight.shape) for weight in model.weights])
    measured = task.measure(model, words(FEW.take(np.array([1]))))
    assert measured.loss.item() == pytest.approx(math.log(40) * 5 / 4)


def test_nothing_is_decoded_in_training(task: Pronunciations, model: EncoderDecoder) -> None:
    assert task.measure(model.train(), words(FEW)).metric is None
    assert task.measure(model.eval(), words(FEW)).metric is not None


def test_the_baseline(task: Pronunciations, data: tuple[Lexicon, Lexicon, Lexicon]) -> None:
    """Words of which as many phonemes are known as they have letters say which stands for which."""
    likeliest = likeliest_phonemes(lexicon("ab AE B", "ba B AA", "a AA", "b B", "bab B AE T S"))
    assert [PHONEMES[n] for n in likeliest[:2]] == ["AA", "B"]

    phoneme = dict(zip(LETTERS, (PHONEMES[n] for n in likeliest_phonemes(data[0])), strict=True))
    assert [phoneme[letter] for letter in "abctz"] == ["AH", "B", "K", "T", "Z"]
    assert task.baseline.value == pytest.approx(0.4850, abs=5e-5)


# Training


def test_words_come_in_another_order_each_epoch(task: Pronunciations) -> None:
    random, same = Random(3, torch.device("cpu")), Random(3, torch.device("cpu"))
    first, again, second = (list(task.batches(r)) for r in (random, same, random))

    assert sum(len(batch.letters) for batch in first) == task.sizes["training"]
    assert torch.equal(first[0].letters, again[0].letters)
    assert not torch.equal(first[0].letters, second[0].letters)


def test_a_few_words_are_learnt_by_heart(task: Pronunciations) -> None:
    torch.manual_seed(0)
    model = EncoderDecoder(26, 39, units=32, embedding=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        task.measure(model, words(FEW)).loss.backward()
        optimizer.step()

    assert task.measure(model.eval(), words(FEW)).metric == 0
    (said,) = model(torch.from_numpy(spelled("zephyr"))[None])
    assert [PHONEMES[n] for n in said] == ["Z", "EH", "F", "ER"]


class Small(Pronunciations):
    units, embedding, dropout, batch_size = 64, 32, 0.1, 32


def trained(output: Path, data: tuple[Lexicon, Lexicon, Lexicon], every: int) -> Outcome:
    """Two epochs, of each `every`th word for training."""
    everything, validation, test = data
    some = everything.take(np.arange(0, len(everything), every))
    task = Small((some, validation, test), seed=0)
    quick = replace(PRONUNCIATIONS.settings, epochs=2, learning_rate=0.01)
    return train(task, quick, output, name="small", seed=5)


def test_a_short_training_beats_the_baseline(
    data: tuple[Lexicon, Lexicon, Lexicon], tmp_path: Path
) -> None:
    outcome = trained(tmp_path, data, every=2)
    assert outcome.test < 0.8 * outcome.baseline
    assert (tmp_path / runs.CURVE).stat().st_size > 0


def test_same_seed_same_weights(data: tuple[Lexicon, Lexicon, Lexicon], tmp_path: Path) -> None:
    everything, *others = data
    few = (everything, *(part.take(np.arange(50)) for part in others))
    one, other = (trained(tmp_path / name, few, every=40) for name in ("a", "b"))

    assert replace(one, seconds=0) == replace(other, seconds=0)
    weights = [(tmp_path / name / runs.WEIGHTS).read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


# The full dictionary


def test_the_full_dictionary_has_a_larger_model(
    data: tuple[Lexicon, Lexicon, Lexicon],
) -> None:
    """And its words may be much longer than those of the small one."""
    task = FullPronunciations(data, seed=0)
    model = task.model().eval()
    long = lexicon("supercalifragilistic S UW P ER K AE L AH F R AE JH AH L IH S T IH K", "a AH")
    measured = task.measure(model, words(long))

    assert model.count_params() > 4 * Pronunciations(data, seed=0).model().count_params()
    assert measured.weight == 20
    assert math.isfinite(measured.loss.item())
    assert FULL_PRONUNCIATIONS.task is FullPronunciations


def test_words_are_a_batch_of_letters_and_phonemes_with_masks() -> None:
    batch = words(FEW.take(np.array([0, 1])))
    assert isinstance(batch, Words)
    assert batch.letters.tolist() == [[0, 23, 0, 0, 0], spelled("queen").tolist()]
    assert batch.letters_mask.tolist() == [[True, True, False, False, False], [True] * 5]
    assert batch.phonemes_mask.tolist() == [[True, True, True, False], [True] * 4]
