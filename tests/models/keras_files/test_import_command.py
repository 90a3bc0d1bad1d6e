"""`rnnserve import-keras`, as people call it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import typer
from torch.nn import functional
from typer.testing import CliRunner

from models import activations, runs
from models.keras_files.cli import import_keras
from tests.models.keras_files.reference import TOLERANCE, error

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

app = typer.Typer()
app.command()(import_keras)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def imported(keras: Path, name: str, tmp_path: Path) -> tuple[runs.Run, str]:
    result = call(keras / name, "-o", tmp_path / "run", "--name", "speech")
    assert result.exit_code == 0, result.output
    return runs.load(tmp_path / "run"), result.output


def test_a_run_that_answers_as_keras_did(keras: Path, tmp_path: Path) -> None:
    name = "tf-keras-2.21.0/sequential.keras"
    run, output = imported(keras, name, tmp_path)

    assert error(run.model, keras / name) < TOLERANCE
    assert run.name == "speech"
    assert run.metrics == {
        "imported_from": "sequential.keras",
        "keras_version": "2.21.0",
        "parameters": 128 + 56 + 9,
    }
    assert f"Next: rnnserve export {tmp_path / 'run'} --repository repository" in output


def test_a_table_of_the_layers(keras: Path, tmp_path: Path) -> None:
    _, output = imported(keras, "keras-2.2.4/sequential.h5", tmp_path)
    rows = [" ".join(line.split()) for line in output.splitlines()]

    assert "sequential.h5, written by Keras 2.2.4" in rows
    assert "encoder LSTM 3x16, 4x16, 16 128" in rows
    assert "dropout_1 Dropout, in training only 0" in rows
    assert "time_distributed_1 TimeDistributed → Dense 2x3, 3 9" in rows
    assert "activation_1 Activation, of the Dense 0" in rows


@pytest.mark.parametrize("name", ["keras-2.2.4/cudnn_gru.h5", "keras-2.2.4/stack_frozen.h5"])
def test_a_model_that_answers_once_says_so(keras: Path, tmp_path: Path, name: str) -> None:
    run, output = imported(keras, name, tmp_path)

    assert error(run.model, keras / name) < TOLERANCE
    assert "has return_sequences=False: the model answers once, at the end of a seq" in output
    assert "Next:" not in output


def test_the_hard_sigmoid_of_keras_3_goes_into_the_run(
    keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "keras-3.15.1/lstm.keras"
    monkeypatch.setitem(activations.NAMED, "hard_sigmoid_keras3", functional.hardsigmoid)
    run, _ = imported(keras, name, tmp_path)

    assert error(run.model, keras / name) < TOLERANCE
    model = json.loads((tmp_path / "run" / runs.MODEL).read_text())
    (lstm,) = model["config"]["layers"]
    assert lstm["config"]["recurrent_activation"] == "hard_sigmoid_keras3"


def test_the_name_is_the_files_by_default(
    keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(keras / "keras-2.2.4/lstm.h5", tmp_path / "my speech model.h5")
    result = call("my speech model.h5")

    assert result.exit_code == 0, result.output
    assert runs.load(tmp_path / "runs" / "my_speech_model").name == "my_speech_model"


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("keras-2.2.4/lstm_weights.h5", "lstm_1 3x16, 4x16, 16 128"),
        ("keras-3.15.1/sequential.weights.h5", "encoder 3x16, 4x16, 16 128"),
    ],
)
def test_weights_alone_are_shown_and_refused(
    keras: Path, tmp_path: Path, name: str, row: str
) -> None:
    result = call(keras / name, "-o", tmp_path / "run")

    assert result.exit_code == 2
    assert row in [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "holds weights alone: save the whole model in Keras" in result.stderr
    assert not (tmp_path / "run").exists()


def test_no_such_file(tmp_path: Path) -> None:
    result = call(tmp_path / "m.keras")

    assert result.exit_code == 1
    assert (
        result.stderr == f"Error: cannot read {tmp_path / 'm.keras'}: No such file or directory\n"
    )


def test_output_that_cannot_be_written(keras: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = call(keras / "keras-2.2.4/lstm.h5", "-o", tmp_path / "file")

    assert result.exit_code == 1
    assert f"Error: cannot write {tmp_path / 'file'}" in result.stderr


def test_a_function_without_a_name_cannot_be_saved(
    keras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(activations.NAMED, "hard_sigmoid_keras3", raising=False)
    result = call(keras / "keras-3.15.1/lstm.h5", "-o", tmp_path / "run")

    assert result.exit_code == 2
    assert "cannot be saved" in result.stderr
    assert not (tmp_path / "run").exists()
