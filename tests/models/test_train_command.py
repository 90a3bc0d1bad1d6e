"""`rnnserve train`, as people call it."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
import torch
import typer
from typer.testing import CliRunner

from demo.server_process import RNNSERVE
from models import runs
from models.cli import train
from models.datasets import japanese_vowels
from models.examples import EXAMPLES
from models.training.checkpoint import CHECKPOINT, load
from models.training.events import FOLDER

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer()
app.command()(train)


def test_two_epochs_of_vowels(tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = CliRunner().invoke(app, ["vowels", "-o", str(output), "--epochs", "2", "--seed", "3"])

    assert result.exit_code == 0, result.output
    assert f"rnnserve export {output} --repository repository" in result.output
    assert f"tensorboard --logdir {output}" in result.output
    assert re.search(r"test accuracy \(higher is better\) .* 0\.\d{4}", result.output)
    assert "baseline: always the most frequent speaker │ 0.2378" in result.output
    metrics = json.loads((output / runs.METRICS).read_text())
    assert (metrics["epochs"], metrics["seed"]) == (2, 3)
    assert metrics["baseline"] == 88 / 370
    assert metrics["metric"] == "accuracy"
    assert metrics["test"] > 2 * metrics["baseline"]
    assert {path.name for path in output.iterdir()} == {
        runs.MODEL,
        runs.WEIGHTS,
        runs.METRICS,
        runs.HISTORY,
        runs.CURVE,
        CHECKPOINT,
        FOLDER,
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


def test_the_accuracy_that_the_readme_promises(tmp_path: Path) -> None:
    train_vowels = CliRunner().invoke(app, ["vowels", "-o", str(tmp_path)])

    assert train_vowels.exit_code == 0
    metrics = json.loads((tmp_path / runs.METRICS).read_text())
    assert metrics["test"] >= 0.97


def test_list() -> None:
    result = CliRunner().invoke(app, ["--list"], env={"COLUMNS": "200"})

    assert result.exit_code == 0
    for name, example in EXAMPLES.items():
        row = [name, example.structure, example.source, example.task.metric.name, example.duration]
        assert re.search(r" +".join(map(re.escape, row)), result.output), row


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vowel"], "there is no example 'vowel'. Did you mean 'vowels'? `rnnserve train --list`"),
        (["x"], "there is no example 'x'. `rnnserve train --list` shows all."),
        ([], "which example? `rnnserve train --list` shows them."),
        (["vowels", "--device", "nonsense"], "cannot train on nonsense: "),
    ],
)
def test_misused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")


# Interrupted and resumed


def test_ctrl_c_and_resume(tmp_path: Path) -> None:
    """The seed and the epochs need not be said again; the result is as without interruption."""
    run, whole = tmp_path / "a run", tmp_path / "whole"
    options = ["--epochs", "12", "--seed", "4"]
    process = subprocess.Popen(
        [RNNSERVE, "train", "vowels", "-o", str(run), *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_for_epochs(run, 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    command = f"rnnserve train vowels --output '{run}' --resume"
    assert errors == f"Interrupted. To go on: {command}\n"
    assert not (run / runs.METRICS).exists()
    result = CliRunner().invoke(app, shlex.split(command)[2:])
    assert result.exit_code == 0, result.output
    assert "12/12 epochs" in result.output
    CliRunner().invoke(app, ["vowels", "-o", str(whole), *options])
    assert (run / runs.WEIGHTS).read_bytes() == (whole / runs.WEIGHTS).read_bytes()
    assert metrics_of(run) == metrics_of(whole)


def wait_for_epochs(run: Path, epochs: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (run / CHECKPOINT).is_file() and len(load(run).training["history"]) >= epochs:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {epochs} epochs: {process.poll()}")


def metrics_of(run: Path) -> dict[str, object]:
    return {**json.loads((run / runs.METRICS).read_text()), "seconds": 0}


def test_resuming_a_finished_run_says_so(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["vowels", "-o", str(tmp_path), "--epochs", "1"])
    result = CliRunner().invoke(app, ["vowels", "-o", str(tmp_path), "--resume"])

    assert result.exit_code == 0
    assert "was finished: there was nothing left to train." in result.output.replace("\n", " ")
    assert "test accuracy" in result.output


def test_resuming_otherwise_is_refused(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["vowels", "-o", str(tmp_path), "--epochs", "1"])
    arguments = ["vowels", "-o", str(tmp_path), "--resume", "--seed", "1", "--epochs", "2"]
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 1
    assert "was begun with epochs 1, not 2; seed 0, not 1." in result.stderr


def test_resuming_what_never_began(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["vowels", "-o", str(tmp_path), "--resume"])

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: There is nothing to resume in {tmp_path}")


# Trouble


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(app, ["vowels", "-o", str(tmp_path / "file"), "--epochs", "1"])

    assert result.exit_code == 1
    assert "cannot write" in result.stderr
    assert "Traceback" not in result.output
