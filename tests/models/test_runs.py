"""What a training leaves behind can be read back, and says so when it cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from models import (
    LSTM,
    RNN,
    Dense,
    GRUCell,
    Layer,
    Normalization,
    Sequential,
    register,
    runs,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def saved(directory: Path) -> Sequential:
    model = Sequential([Normalization(), LSTM(3, return_sequences=True), Dense(2, "softmax")])
    model.layers[0].adapt(torch.randn(9, 4))
    model.build((None, None, 4))
    runs.save(directory, model, "example", {"accuracy": 0.5})
    return model


def test_round_trip(tmp_path: Path) -> None:
    model = saved(tmp_path / "new" / "folder")
    run = runs.load(tmp_path / "new" / "folder")
    x = torch.randn(2, 3, 4)

    assert torch.equal(run.model(x), model(x))
    assert (run.name, run.metrics["accuracy"]) == ("example", 0.5)
    assert not run.model.training


def test_metrics_are_not_needed(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / runs.METRICS).unlink()

    assert runs.load(tmp_path).metrics == {}


def test_a_model_not_built_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="built"):
        runs.save(tmp_path, Sequential([Dense(2)]), "example", {})


@pytest.mark.parametrize("missing", [runs.MODEL, runs.WEIGHTS])
def test_missing_file(tmp_path: Path, missing: str) -> None:
    saved(tmp_path)
    (tmp_path / missing).unlink()

    with pytest.raises(runs.RunError, match=f"is not a run: it has no {missing}"):
        runs.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "does not describe a model"),
        ("{}", "does not describe a model: 'class_name'"),
        ('{"class_name": "Nothing", "config": {}}', "Unknown layer: Nothing"),
        ('{"class_name": "Normalization", "config": {}, "name": "n"}', "does not say the shape"),
        ('{"class_name": "LSTMCell", "config": {"units": 2}, "name": "n"}', "not say the shape"),
    ],
)
def test_bad_model_file(tmp_path: Path, text: str, message: str) -> None:
    saved(tmp_path)
    (tmp_path / runs.MODEL).write_text(text)

    with pytest.raises(runs.RunError, match=message):
        runs.load(tmp_path)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    saved(tmp_path)
    config = json.loads((tmp_path / runs.MODEL).read_text())
    config["config"]["layers"][1]["config"]["units"] = 5
    (tmp_path / runs.MODEL).write_text(json.dumps(config))

    with pytest.raises(runs.RunError, match=r"model\.safetensors does not fit model\.json"):
        runs.load(tmp_path)


def test_truncated_weights(tmp_path: Path) -> None:
    saved(tmp_path)
    weights = tmp_path / runs.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:100])

    with pytest.raises(runs.RunError, match="does not fit"):
        runs.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_bad_metrics_file(tmp_path: Path, text: str) -> None:
    saved(tmp_path)
    (tmp_path / runs.METRICS).write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(runs.RunError, match=r"metrics\.json does not hold metrics"):
        runs.load(tmp_path)


# Layers of all kinds


@register
class Twice(Layer):
    """A model of one's own: its __init__ builds it."""

    def __init__(self, units: int, **options: object) -> None:
        super().__init__(**options)
        self.units = units
        self.inner = LSTM(units, name="inner")
        self.inner.build((None, None, 2))
        self.built = True

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * self.inner(inputs)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "units": self.units}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Twice(3),
        lambda: LSTM(3, batch_input_shape=(None, None, 2)),
        lambda: RNN([GRUCell(3), GRUCell(2)], input_shape=(None, 2)),
        lambda: Sequential([Twice(3)]),
        lambda: Dense(3, batch_input_shape=(None, 2)),
    ],
    ids=["own", "lstm", "stack", "sequential", "dense"],
)
def test_any_layer(tmp_path: Path, make: Callable[[], Layer]) -> None:
    model, x = make(), torch.randn(3, 4, 2)
    expected = model(x)
    runs.save(tmp_path, model, "any", {})

    torch.manual_seed(9)
    loaded = runs.load(tmp_path).model

    assert type(loaded) is type(model)
    assert torch.equal(loaded(x), expected)


def mine(x: torch.Tensor) -> torch.Tensor:
    return x.square().sum()


@pytest.mark.parametrize(
    ("layer", "where"),
    [
        (Dense(2, activation=mine), r"config\.layers\[0\]\.config\.activation"),
        (LSTM(2, kernel_regularizer=mine), r"config\.layers\[0\]\.config\.kernel_regularizer"),
        (RNN([GRUCell(2, activation=mine)]), r"\.cells\[0\]\.config\.activation"),
    ],
)
def test_a_callable_of_ones_own_cannot_be_saved(tmp_path: Path, layer: Layer, where: str) -> None:
    model = Sequential([layer], name="special")
    model.build((None, None, 2))

    with pytest.raises(ValueError, match=rf"special cannot be saved: .*{where} in .* is <function"):
        runs.save(tmp_path / "run", model, "special", {})
    assert not (tmp_path / "run").exists()


class Unregistered(Twice):
    pass


@register
class Forgetful(Twice):
    """Its config does not hold its units."""

    def __init__(self, units: int = 1, **options: object) -> None:
        super().__init__(units, **options)

    def get_config(self) -> dict[str, object]:
        return Layer.get_config(self)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Unregistered(2), "Unknown layer: Unregistered.*`models.register`"),
        (lambda: Forgetful(2), "forgetful cannot be saved: what its config makes has other weight"),
        (lambda: built(Dense(2)), "does not say the shape of its inputs"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(
    tmp_path: Path, make: Callable[[], Layer], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        runs.save(tmp_path / "run", make(), "example", {})
    assert not (tmp_path / "run").exists()


def built(layer: Layer) -> Layer:
    layer(torch.ones(1, 2))
    return layer


def test_saving_draws_no_random_numbers(tmp_path: Path) -> None:
    torch.manual_seed(3)
    saved(tmp_path)
    after = torch.rand(1)
    torch.manual_seed(3)
    model = Sequential([Normalization(), LSTM(3, return_sequences=True), Dense(2, "softmax")])
    model.layers[0].adapt(torch.randn(9, 4))
    model.build((None, None, 4))

    assert torch.equal(torch.rand(1), after)


def test_clear_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")

    runs.clear(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
