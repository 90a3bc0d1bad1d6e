"""What a training leaves behind can be read back, and says so when it cannot."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest
import torch

from models import LSTM, Dense, Normalization, Sequential, runs

if TYPE_CHECKING:
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
        ('{"class_name": "Normalization", "config": {}, "name": "n"}', "not a Sequential"),
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


def test_history_and_curve(tmp_path: Path) -> None:
    from models.training.fit import Epoch, Fitted
    from models.training.history import draw, write_csv

    fitted = Fitted([Epoch(1, 0.9, 0.5, 1.0, 0.25, 0.1), Epoch(2, 0.5, 0.75, 0.8, 0.5, 0.1)], 2)
    write_csv(tmp_path / runs.HISTORY, fitted)
    draw(tmp_path / runs.CURVE, fitted, "an example")

    with (tmp_path / runs.HISTORY).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["validation_accuracy"] for row in rows] == ["0.25", "0.5"]
    assert (tmp_path / runs.CURVE).read_bytes().startswith(b"\x89PNG")
