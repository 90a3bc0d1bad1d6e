"""The fixtures by name, such as `keras-2.2.4/lstm.h5`, and our own models of the same cases."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import models
from tests.models.keras_files import cases

FIXTURES = Path(__file__).parent / "fixtures"
ENDING = re.compile(r"(_weights\.h5|\.weights\.h5|\.h5|\.keras)$")
TOLERANCE = 1e-6  # of the largest output


def names(*endings: str) -> list[str]:
    """The fixtures that end like this, of all versions of Keras."""
    return [
        f"{archive.stem}/{name}"
        for archive in sorted(FIXTURES.glob("*.zip"))
        for name in zipfile.ZipFile(archive).namelist()
        if (found := ENDING.search(name)) and found[0] in endings
    ]


def case_of(name: str) -> str:
    """`keras-2.2.4/lstm.h5` → `lstm`."""
    return ENDING.sub("", name.partition("/")[2])


def error(model: models.Layer, path: Path) -> float:
    """The largest difference to what Keras computed, as a part of the largest output."""
    with np.load(path.with_name(f"{case_of(f'/{path.name}')}.npz")) as stored:
        x, expected = torch.from_numpy(stored["x"]), stored["y"]
    with torch.no_grad():
        found = model.eval()(x)
    assert found.shape == expected.shape
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def own_model(name: str) -> models.Sequential:
    """Our model of a fixture's case, not built, with the defaults of the Keras that wrote it."""
    _, described = cases.CASES[case_of(name)]
    layers = [_layer(one, name) for one in described if one[0] not in ("Dropout", "Activation")]
    return models.Sequential(layers)


def _layer(described: tuple[str, dict[str, Any]], fixture: str) -> Any:
    name, config = described
    if name == "TimeDistributed":
        return models.Dense(**config["layer"][1], activation="softmax")
    config = dict(config)
    if "cell" in config:
        cell = config["cell"]
        many = isinstance(cell, list)
        config["cell"] = [_layer(c, fixture) for c in cell] if many else _layer(cell, fixture)
    if name == "LSTM" and not fixture.startswith("keras-2.2.4"):
        config.setdefault("recurrent_activation", "sigmoid")
    if config.get("recurrent_activation") == "hard_sigmoid" and fixture.startswith("keras-3"):
        config["recurrent_activation"] = functional.hardsigmoid
    return getattr(models, name)(**config)
