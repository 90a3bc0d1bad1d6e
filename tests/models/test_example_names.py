"""Names of digits: what the decoder is told and says, what counts, and what is learnt."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models import runs
from models.datasets import DIGIT_NAMES, LETTERS, digits, spelled
from models.examples.decoder import Decoder, up_to
from models.examples.digits import flat
from models.examples.names import NAMES, Named, Names, Speller, named
from models.training import Random, train

if TYPE_CHECKING:
    from pathlib import Path

    from models.datasets import Images
    from models.training import Outcome


@pytest.fixture(scope="module")
def data() -> tuple[Images, Images, Images]:
    return digits()


@pytest.fixture(scope="module")
def task(data: tuple[Images, Images, Images]) -> Names:
    return Names(data, seed=0)


@pytest.fixture(scope="module")
def batch(data: tuple[Images, Images, Images]) -> Named:
    """An image of each digit."""
    return named(data[0].take(np.arange(10)))


@pytest.fixture
def model() -> Speller:
    """Untrained, with weights so large that what it says depends on the image."""
    model = Speller(64, hidden=8, units=12, embedding=5, name="small").eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(generator=generator)
        model.decoder.head.bias[model.decoder.boundary] = 2
    return model


# The decoder


def test_one_symbol_after_the_other_is_all_at_once(model: Speller, batch: Named) -> None:
    """By the LSTM's own cell, from states that are carried by hand."""
    decoder, states = model.decoder, model.see(batch.pixels)
    previous = torch.randint(27, (10, 4), generator=torch.Generator().manual_seed(0))
    logits, final = decoder(previous, states)

    for step in range(4):
        vectors = decoder.vectors.embeddings[previous[:, step]]
        output, states = decoder.lstm.cell.call(vectors, states)
        torch.testing.assert_close(
            output @ decoder.head.kernel + decoder.head.bias, logits[:, step]
        )
    torch.testing.assert_close(states, final)


def spelled_step_by_step(model: Speller, pixels: torch.Tensor, limit: int) -> list[int]:
    """What the model says of one image: each call goes on from the states of the one before."""
    states = model.see(pixels[None])
    said = [model.decoder.boundary]
    while len(said) <= limit:
        logits, states = model.decoder(torch.tensor([said[-1:]]), states)
        said.append(int(logits[0, 0].argmax()))
        if said[-1] == model.decoder.boundary:
            return said[1:-1]
    return said[1:]


def test_greedy_is_choosing_step_by_step_with_carried_states(model: Speller, batch: Named) -> None:
    """For each image alone; some are done before others, and some are cut at the limit."""
    said = [name.tolist() for name in model(batch.pixels, limit=7)]

    assert said == [spelled_step_by_step(model, pixels, limit=7) for pixels in batch.pixels]
    lengths = {len(name) for name in said}
    assert 7 in lengths
    assert len(lengths) > 2
    assert len({tuple(name) for name in said}) > 5


def test_surprise_is_what_each_symbol_and_the_end_cost(model: Speller, batch: Named) -> None:
    """Word by word, from the probabilities of one symbol after the other."""
    decoder, states = model.decoder, model.see(batch.pixels)
    surprise = decoder.surprise(batch.letters, batch.mask, states)

    for row, digit in enumerate(DIGIT_NAMES):
        symbols = [*spelled(digit).tolist(), decoder.boundary]
        carried = tuple(state[row : row + 1] for state in states)
        expected, last = 0.0, decoder.boundary
        for symbol in symbols:
            logits, carried = decoder(torch.tensor([[last]]), carried)
            expected -= math.log(logits[0, 0].softmax(dim=0)[symbol].item())
            last = symbol
        assert surprise[row].item() == pytest.approx(expected, rel=1e-4)


def test_dropout_acts_in_training_only() -> None:
    decoder = Decoder(26, units=8, embedding=4, dropout=0.5)
    previous, states = torch.tensor([[26, 3]]), (torch.ones(1, 8), torch.ones(1, 8))

    assert not torch.equal(decoder(previous, states)[0], decoder(previous, states)[0])
    decoder.eval()
    assert torch.equal(decoder(previous, states)[0], decoder(previous, states)[0])


def test_up_to_the_boundary() -> None:
    symbols = torch.tensor([4, 0, 9, 5, 9, 1])
    assert up_to(symbols, 9).tolist() == [4, 0]
    assert up_to(symbols, 4).tolist() == []
    assert up_to(symbols, 7).tolist() == symbols.tolist()


# The model and its run folder


def test_the_model_comes_back_from_its_run_folder(
    model: Speller, batch: Named, tmp_path: Path
) -> None:
    runs.save(tmp_path, model, "small", {})
    loaded = runs.load(tmp_path).model

    assert isinstance(loaded, Speller)
    assert loaded.get_config() == model.get_config()
    assert [n.tolist() for n in loaded(batch.pixels)] == [n.tolist() for n in model(batch.pixels)]


def test_the_model_of_the_task_can_be_saved(task: Names) -> None:
    runs.check(task.model())


# What is measured


def test_named(batch: Named, data: tuple[Images, Images, Images]) -> None:
    names = [
        "".join(LETTERS[letter] for letter in letters[mask])
        for letters, mask in zip(batch.letters, batch.mask, strict=True)
    ]
    assert names == list(DIGIT_NAMES)
    assert batch.letters.shape == (10, 5)
    assert torch.equal(batch.pixels, torch.from_numpy(flat(data[0])[:10]))


def test_padding_counts_nowhere(task: Names, model: Speller, batch: Named) -> None:
    other = replace(batch, letters=torch.where(batch.mask, batch.letters, 17))
    measured, again = task.measure(model, batch), task.measure(model, other)

    assert not torch.equal(batch.letters, other.letters)
    assert torch.equal(measured.loss, again.loss)
    assert (measured.metric, measured.weight) == (again.metric, again.weight) == (0, 10)


def test_a_batch_is_the_mean_of_its_images(task: Names, model: Speller, batch: Named) -> None:
    """With padding of any length."""
    parts = [
        Named(batch.pixels[i, None], letters[None, mask], mask[None, mask])
        for i, (letters, mask) in enumerate(zip(batch.letters, batch.mask, strict=True))
    ]
    alone = [task.measure(model, part).loss.item() for part in parts]
    assert task.measure(model, batch).loss.item() == pytest.approx(np.mean(alone))


def test_the_loss_of_knowing_nothing(task: Names, batch: Named) -> None:
    """Without weights all 27 symbols are equally likely, at five places for four letters."""
    model = task.model()
    model.set_weights([np.zeros(weight.shape) for weight in model.weights])
    measured = task.measure(model, batch)
    letters = sum(map(len, DIGIT_NAMES)) / 10
    assert measured.loss.item() == pytest.approx(math.log(27) * (letters + 1))


def test_a_few_names_are_learnt_by_heart(task: Names, batch: Named) -> None:
    """They are right as a whole only: one that does not end is wrong, as is another's name."""
    torch.manual_seed(0)
    model = Speller(64, hidden=32, units=32, embedding=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        task.measure(model, batch).loss.backward()
        optimizer.step()

    assert task.measure(model, batch).metric == 1
    names = ["".join(LETTERS[letter] for letter in name) for name in model(batch.pixels)]
    assert names == list(DIGIT_NAMES)
    first = Named(batch.pixels.roll(-1, dims=0), batch.letters, batch.mask)
    assert task.measure(model, first).metric == 0
    with torch.no_grad():
        model.decoder.head.bias[model.decoder.boundary] = -1e9
    assert task.measure(model, batch).metric == 0


# Training


def test_images_come_in_another_order_each_epoch_with_their_names(task: Names) -> None:
    random = Random(3, torch.device("cpu"))
    first, second = (list(task.batches(random)) for _ in range(2))
    (again, *_) = task.batches(Random(3, torch.device("cpu")))

    assert sum(len(batch.pixels) for batch in first) == task.sizes["training"]
    assert torch.equal(first[0].pixels, again.pixels)
    assert not torch.equal(first[0].pixels, second[0].pixels)
    assert first[0].pixels.shape == (32, 64)
    assert first[0].letters.shape == first[0].mask.shape == (32, 5)


def trained(data: tuple[Images, Images, Images], output: Path, epochs: int) -> Outcome:
    settings = replace(NAMES.settings, epochs=epochs)
    return train(Names(data, seed=5), settings, output, name="names", seed=5)


def test_a_short_training_beats_the_baseline(
    data: tuple[Images, Images, Images], tmp_path: Path
) -> None:
    outcome = trained(data, tmp_path, epochs=5)
    assert outcome.baseline == 39 / 382
    assert outcome.test > 5 * outcome.baseline
    assert (tmp_path / runs.CURVE).stat().st_size > 0


def test_same_seed_same_weights(data: tuple[Images, Images, Images], tmp_path: Path) -> None:
    few = (data[0].take(np.arange(100)), *data[1:])
    one, other = (trained(few, tmp_path / name, epochs=2) for name in ("a", "b"))

    assert replace(one, seconds=0) == replace(other, seconds=0)
    weights = [(tmp_path / name / runs.WEIGHTS).read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
