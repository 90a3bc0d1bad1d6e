"""`rnnserve train`, as people call it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
import typer
from typer.testing import CliRunner

from models import runs
from models.cli import train
from models.datasets import japanese_vowels

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer()
app.command()(train)


def test_two_epochs_of_vowels(tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = CliRunner().invoke(app, ["vowels", "-o", str(output), "--epochs", "2", "--seed", "3"])

    assert result.exit_code == 0, result.output
    assert f"rnnserve export {output} --repository repository" in result.output
    metrics = json.loads((output / runs.METRICS).read_text())
    assert (metrics["epochs"], metrics["seed"]) == (2, 3)
    assert metrics["baseline"] == 88 / 370
    assert metrics["accuracy"] > 2 * metrics["baseline"]
    assert {path.name for path in output.iterdir()} == {
        runs.MODEL,
        runs.WEIGHTS,
        runs.METRICS,
        runs.HISTORY,
        runs.CURVE,
    }


def test_the_run_answers_raw_frames_with_probabilities(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["vowels", "-o", str(tmp_path), "--epochs", "1"])
    run = runs.load(tmp_path)
    _, test = japanese_vowels()

    probabilities = run.model(torch.from_numpy(test.frames[0])[None])

    assert run.name == "vowels"
    assert probabilities.shape == (1, len(test.frames[0]), 9)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(1, len(test.frames[0])))
    assert run.model.states_spec() == [("lstm_h", (96,)), ("lstm_c", (96,))]
    assert (run.model.input_name, run.model.output_name) == ("frames", "probabilities")


def test_unknown_example() -> None:
    result = CliRunner().invoke(app, ["vowel"])

    assert result.exit_code == 2
    assert result.stderr == "Error: there is no example 'vowel'; known are: vowels\n"


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(app, ["vowels", "-o", str(tmp_path / "file"), "--epochs", "1"])

    assert result.exit_code == 1
    assert "cannot write" in result.stderr
    assert "Traceback" not in result.output
