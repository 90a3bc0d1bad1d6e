"""Layers of the whole family, exported and served, against the torch model that they come from.

Sessions interleave at random, in requests of random lengths, some with masks; each must come to
what the model gives in torch for the very same requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import export
import models
import rnnserve
from export.carrier import Carrier
from models.examples.encoder_decoder import EncoderDecoder
from models.examples.names import Speller

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

FEATURES, SESSIONS, TURNS = 5, 6, 40
TOLERANCE = {"float16": 5e-3}


class Scaled:
    """A cell of one's own that takes a constant."""

    state_size = 3

    def call(self, x: Tensor, states: Any, constants: Any) -> Any:
        h = torch.tanh(x[:, :3] + 0.5 * states[0] * constants[0])
        return 2 * h, (h,)


class Both(nn.Module):
    """Not causal, with two inputs and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = {
            "frames": models.Input((None, None, FEATURES)),
            "speaker": models.Input((None, 4)),
        }
        self.there = models.LSTM(4, return_sequences=True)
        self.back = models.GRU(3, return_sequences=True, go_backwards=True)
        for layer in (self.there, self.back):
            layer.build((None, None, FEATURES))
        self.head = nn.Linear(7, 4)

    def forward(self, frames: Tensor, speaker: Tensor) -> dict[str, Tensor]:
        both = torch.cat([self.there(frames), self.back(frames).flip(1)], dim=-1)
        y = self.head(both) + speaker[:, None]
        return {"sequence": y, "mean": y.mean(1)}


def sequential(
    *layers: models.Layer, shape: tuple[int | None, ...] = (None, None, FEATURES)
) -> Any:
    model = models.Sequential(list(layers))
    model.build(shape)
    return model


def with_constants() -> models.RNN:
    layer = models.RNN(Scaled(), return_sequences=True)
    layer.build([(None, None, FEATURES), (None, 3)])
    return layer


CONTEXT = {
    "frames": models.Input((None, None, FEATURES)),
    "context": models.Input((None, 3), constant=True),
}
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "masked": (
        lambda: sequential(models.LSTM(4, return_sequences=True), models.GRU(3)),
        {"mask": True},
    ),
    "one step": (
        lambda: sequential(models.GRU(4, return_sequences=True), models.LSTM(3)),
        {"one_step": True, "mask": True},
    ),
    "native": (
        lambda: sequential(models.CuDNNLSTM(4, return_sequences=True), models.Dense(2, "softmax")),
        {},
    ),
    "stacked": (
        lambda: sequential(
            models.RNN([models.LSTMCell(3), models.GRUCell(2)], return_sequences=True)
        ),
        {"target": "cpu"},
    ),
    "feedback": (
        lambda: sequential(models.GatedFeedbackRNN((3, 2), "lstm", return_sequences=True)),
        {},
    ),
    "backwards": (lambda: sequential(models.GRU(3, go_backwards=True)), {}),
    "films": (
        lambda: sequential(
            models.ConvLSTM2D(2, 3, padding="same", return_sequences=True),
            shape=(None, None, 4, 5, 1),
        ),
        {},
    ),
    "symbols": (
        lambda: sequential(
            models.Embedding(9, 4, mask_zero=True),
            models.LSTM(3, return_sequences=True),
            shape=(None, None),
        ),
        {},
    ),
    "half": (lambda: sequential(models.LSTM(4, return_sequences=True)), {"dtype": "float16"}),
    "constants": (with_constants, {"inputs": CONTEXT}),
    "both": (Both, {}),
}


@pytest.fixture(scope="module")
def family() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {name: make() for name, (make, _) in MODELS.items()}


@pytest.fixture(scope="module")
def address(family: dict[str, nn.Module], start: Any, tmp_path_factory: Any) -> str:
    repository: Path = tmp_path_factory.mktemp("family")
    for name, model in family.items():
        export.install(model, repository, name=folder(name), **MODELS[name][1])
    address: str = start(repository).wait_until_serving().grpc
    return address


def folder(name: str) -> str:
    return name.replace(" ", "-")


class Reference:
    """A session as torch has it: the model with the states of the request before."""

    def __init__(self, carrier: Carrier, constants: dict[str, NDArray[Any]]) -> None:
        self._carrier, self._constants = carrier, constants
        self.states: Any = None

    def step(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        tensors = {name: torch.from_numpy(x) for name, x in {**inputs, **self._constants}.items()}
        with torch.inference_mode():
            outputs, self.states, _ = self._carrier.run(tensors, self.states)
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def request(name: str, length: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Inputs of one request, `(1, length, …)`."""
    frames = rng.normal(size=(1, length, FEATURES)).astype(np.float32)
    match name:
        case "symbols":
            return {"frames": rng.integers(0, 9, (1, length))}
        case "films":
            return {"frames": rng.normal(size=(1, length, 4, 5, 1)).astype(np.float32)}
        case "both":
            return {"frames": frames, "speaker": rng.normal(size=(1, 4)).astype(np.float32)}
        case "masked" | "one step" if rng.random() < 0.7:
            return {"frames": frames, "mask": rng.random((1, length)) < 0.6}
    return {"frames": frames}


@pytest.mark.parametrize("name", MODELS)
def test_interleaved_sessions(address: str, family: dict[str, nn.Module], name: str) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    carrier = Carrier(family[name])
    givens: list[dict[str, NDArray[Any]]] = [
        {"context": rng.normal(size=(1, 3)).astype(np.float32)} if name == "constants" else {}
        for _ in range(SESSIONS)
    ]
    references = [Reference(carrier, given) for given in givens]
    limit = TOLERANCE.get(MODELS[name][1].get("dtype", ""), 2e-6)
    with rnnserve.connect(address) as client:
        sessions = [
            client.session(folder(name), constants=given or None).open() for given in givens
        ]
        for turn in range(TURNS):
            i = int(rng.integers(SESSIONS))
            inputs = request(name, int(rng.integers(1, 40 if turn % 5 == 0 else 5)), rng)
            wanted = references[i].step(inputs)
            got = sessions[i].step(inputs, return_sequences=True)
            got = got if isinstance(got, dict) else {next(iter(wanted)): got}
            for output, array in wanted.items():
                np.testing.assert_allclose(got[output], array, rtol=0, atol=limit)
        for session, reference in zip(sessions, references, strict=True):
            for mine, theirs in zip(session.states.values(), reference.states or (), strict=False):
                np.testing.assert_allclose(mine, theirs.numpy(), rtol=0, atol=limit)
            session.close()


# ---- encoder and decoder ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def words() -> EncoderDecoder:
    torch.manual_seed(3)
    model = EncoderDecoder(11, 13, units=16, embedding=8).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # or an untrained model says the same for every word
    return model


@pytest.fixture(scope="module")
def speller() -> Speller:
    torch.manual_seed(4)
    return Speller(64, hidden=12, units=16, embedding=8).eval()


@pytest.fixture(scope="module")
def pairs(words: EncoderDecoder, speller: Speller, start: Any, tmp_path_factory: Any) -> str:
    repository: Path = tmp_path_factory.mktemp("pairs")
    for name, model in (("words", words), ("names", speller)):
        for part, module in model.parts().items():
            export.install(module, repository, name=f"{name}-{part}")
    address: str = start(repository).wait_until_serving().grpc
    return address


def greedy(session: rnnserve.Session, boundary: int, limit: int) -> list[int]:
    """Always the likeliest symbol, told to the decoder as the next one."""
    said = [boundary]
    while len(said) <= limit:
        said.append(int(session.step(np.array([said[-1]])).argmax()))
        if said[-1] == boundary:
            return said[1:-1]
    return said[1:]


def test_a_decoder_begins_where_an_encoder_ended(pairs: str, words: EncoderDecoder) -> None:
    rng = np.random.default_rng(0)
    said = []
    with rnnserve.connect(pairs) as client:
        for length in (1, 3, 8, 5):
            source = rng.integers(0, 11, length)
            with client.session("words-encoder") as encoder:
                assert encoder.step(source) == {}
                with client.session("words-decoder", states_of=encoder) as decoder:
                    said.append(greedy(decoder, words.decoder.boundary, 20))
            with torch.inference_mode():
                (expected,) = words(torch.from_numpy(source[None]), limit=20)
            assert said[-1] == expected.tolist()
    assert len({tuple(each) for each in said}) > 1


def test_a_batch_of_words_of_different_lengths(pairs: str, words: EncoderDecoder) -> None:
    source = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8], [9, 0, 0, 0, 0]])
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)
    with (
        rnnserve.connect(pairs) as client,
        client.session("words-encoder", batch_size=3) as encoder,
    ):
        encoder.step(source, mask=mask)
        states = encoder.states
    with torch.inference_mode():
        expected = words.encode(torch.from_numpy(source), torch.from_numpy(mask))
    for got, want in zip(states.values(), expected, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-6)


def test_states_that_an_encoder_without_memory_writes(pairs: str, speller: Speller) -> None:
    pixels = np.random.default_rng(5).uniform(size=64).astype(np.float32)
    with rnnserve.connect(pairs) as client, client.session("names-eye") as eye:
        eye.step(pixels)
        with client.session("names-decoder", states_of=eye) as decoder:
            said = greedy(decoder, speller.decoder.boundary, 12)
    with torch.inference_mode():
        (expected,) = speller(torch.from_numpy(pixels[None]), limit=12)
    assert said == expected.tolist()
