"""`rnnserve export`, as somebody at a terminal sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch
import typer
from typer.testing import CliRunner

import models
from export.cli import export, proof_table
from export.proof import Proof, Row
from models import runs
from models.examples.encoder_decoder import EncoderDecoder

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

app = typer.Typer()
app.command()(export)


def invoke(*arguments: Any) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(app, [str(a) for a in arguments])


@pytest.fixture
def run_dir(small: models.Sequential, tmp_path: Path) -> Path:
    runs.save(tmp_path / "run", small, "trained", {})
    return tmp_path / "run"


def test_it_exports_a_run(run_dir: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    result = invoke(run_dir, "--repository", repository)
    assert result.exit_code == 0
    assert (repository / "trained" / "1" / "model.onnx").is_file()
    lines = result.stdout.splitlines()
    assert f"wrote {repository}/trained/config.pbtxt" in lines
    assert f"wrote {repository}/trained/1/model.onnx" in lines
    assert lines[-1] == f"Next: rnnserve serve --repository {repository}"
    assert "nodes stay on the CUDA provider" in result.stdout
    assert "strangers, random" in result.stdout
    assert "FAILED" not in result.stdout


def test_options_reach_the_config(run_dir: Path, tmp_path: Path) -> None:
    options = ("--name", "other", "--max-batch-size", 7, "--idle-seconds", 2.5)
    result = invoke(run_dir, "--repository", tmp_path / "repository", *options)
    assert result.exit_code == 0
    text = (tmp_path / "repository" / "other" / "config.pbtxt").read_text()
    assert 'name: "other"' in text
    assert "max_batch_size: 7" in text
    assert "max_sequence_idle_microseconds: 2500000" in text


def test_the_form_is_chosen(run_dir: Path, tmp_path: Path) -> None:
    result = invoke(run_dir, "--repository", tmp_path, "--target", "cpu", "--one-step")
    assert result.exit_code == 0
    graph = onnx.load(tmp_path / "trained" / "1" / "model.onnx").graph
    assert not {"Scan", "LSTM"} & {node.op_type for node in graph.node}
    result = invoke(run_dir, "--repository", tmp_path, "--target", "cpu", "--mask")
    assert result.exit_code == 0
    graph = onnx.load(tmp_path / "trained" / "1" / "model.onnx").graph
    assert [value.name for value in graph.input][:2] == ["frames", "mask"]


@pytest.mark.parametrize("options", [("--dtype", "float16"), ("--quantize",)])
def test_smaller_numbers_show_their_error(run_dir: Path, tmp_path: Path, options: Any) -> None:
    result = invoke(run_dir, "--repository", tmp_path, *options)
    assert result.exit_code == 0
    (line,) = [n for n in result.stdout.splitlines() if "strangers, random" in n and "lstm_h" in n]
    error = float(line.split()[-3])
    assert 1e-5 < error < 0.05
    assert line.split()[-1] == "ok"


def test_not_both_at_once(run_dir: Path, tmp_path: Path) -> None:
    options = ("--dtype", "float16", "--quantize")
    line = one_line_error(invoke(run_dir, "--repository", tmp_path / "r", *options))
    assert "either float16 or int8" in line


def test_an_encoder_and_a_decoder_become_two_models(tmp_path: Path) -> None:
    runs.save(tmp_path / "run", EncoderDecoder(5, 6, 4, 3), "words", {})
    result = invoke(tmp_path / "run", "--repository", tmp_path / "repository")
    assert result.exit_code == 0
    written = {path.name for path in (tmp_path / "repository").iterdir()}
    assert written == {"words-encoder", "words-decoder"}


def test_the_data_set_of_an_example_takes_part(tmp_path: Path) -> None:
    model = models.Sequential([models.GRU(3, return_sequences=True)])
    model.build((None, None, 12))
    runs.save(tmp_path / "run", model, "vowels", {"example": "vowels"})
    result = invoke(tmp_path / "run", "--repository", tmp_path / "repository")
    assert result.exit_code == 0
    assert "strangers, real data" in result.stdout


def one_line_error(result: Result) -> str:
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.splitlines()
    return line


def test_not_a_run(tmp_path: Path) -> None:
    line = one_line_error(invoke(tmp_path, "--repository", tmp_path / "repository"))
    assert line.startswith(f"Error: {tmp_path} is not a run")
    assert not (tmp_path / "repository").exists()


def test_a_repository_that_cannot_be_written(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = one_line_error(invoke(run_dir, "--repository", tmp_path / "file" / "repository"))
    assert line.startswith("Error: cannot write to")


def test_a_bad_name(run_dir: Path, tmp_path: Path) -> None:
    line = one_line_error(invoke(run_dir, "--repository", tmp_path, "--name", "../up"))
    assert "model name '../up'" in line


def test_a_model_that_is_not_finite_is_not_proven(small: models.Sequential, tmp_path: Path) -> None:
    """Diverged weights: both sides give NaN, and the export must not call that equal."""
    with torch.no_grad():
        small.weights[0][0, 0] = float("nan")
    runs.save(tmp_path / "run", small, "diverged", {})
    result = invoke(tmp_path / "run", "--repository", tmp_path / "repository")
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert "nothing was written" in result.stderr
    assert list((tmp_path / "repository").iterdir()) == []


def test_the_table_shows_every_row() -> None:
    table = proof_table(Proof((Row("whole", "y", 1e-7, 2e-7), Row("steps", "y", 0.5, 0.25))))
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["max abs"] == ["1.0e-07", "5.0e-01"]
    assert columns["max rel"] == ["2.0e-07", "2.5e-01"]
    assert columns["limit"] == ["1.0e-05", "1.0e-05"]
    assert ["FAILED" in str(cell) for cell in columns["verdict"]] == [False, True]
