"""docs/keras.md: its examples run, and its table of kinds of file is what happens."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from models.keras_files import KerasFileError, load_model, load_weights
from tests.models.keras_files.reference import own_model

PAGE = (Path(__file__).parents[3] / "docs" / "keras.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
# The rows of the table of files: a fixture for each.
KINDS = {
    "`.h5` of `model.save`": "keras-3.15.1/lstm.h5",
    "`.h5` of `model.save_weights`": "tf-keras-2.21.0/lstm_weights.h5",
    "`.keras`": "tf-keras-2.21.0/lstm.keras",
    "`.weights.h5`": "keras-3.15.1/lstm.weights.h5",
}


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_examples_run(
    keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    shutil.copy(keras / "tf-keras-2.21.0/sequential.keras", tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)

    exec(SNIPPETS[number], {})


def test_there_are_examples() -> None:
    assert len(SNIPPETS) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_file(keras: Path, kind: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {kind} |")]
    *_, weights, model = [cell.strip() for cell in row.strip("|").split("|")]
    path = keras / KINDS[kind]

    assert weights == "yes"
    load_weights(own_model(KINDS[kind]), path)
    if model == "yes":
        load_model(path)
    else:
        with pytest.raises(KerasFileError, match="holds weights alone"):
            load_model(path)
