"""A training that was killed and goes on ends as if nothing had happened."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from models import runs
from models.training import Settings, train
from models.training.checkpoint import CHECKPOINT, Checkpoint, ResumeError, load, save
from tests.models.training_tasks import Recall

if TYPE_CHECKING:
    from pathlib import Path

EPOCHS = 5
VARIANTS = {
    "whole sequences": (Recall(dropout=0.3, noise=0.3), Settings(epochs=EPOCHS)),
    "chunks": (
        Recall(dropout=0.3, noise=0.3, stateful=True),
        Settings(epochs=EPOCHS, chunk=5, weight_decay=0.1),
    ),
    "few epochs are good": (
        Recall(dropout=0.3, noise=0.3),
        Settings(epochs=EPOCHS, learning_rate=1.0, patience=3),
    ),
}
each_variant = pytest.mark.parametrize("variant", VARIANTS)

# Trains in a process of its own and kills it in the third batch of the fourth epoch.
KILLED = """
import pathlib, sys, torch
from models.training import train
from tests.models.training_tasks import kill_in
from tests.models.test_training_resume import VARIANTS
torch.set_num_threads(1)
task, settings = VARIANTS[sys.argv[1]]
task.in_batch = kill_in(3 * 4 + 2)
train(task, settings, pathlib.Path(sys.argv[2]), name="recall")
"""


def results(
    run_dir: Path,
) -> tuple[dict[str, torch.Tensor], list[dict[str, str]], dict[str, object]]:
    """Weights, history and metrics, without what a clock says."""
    with (run_dir / runs.HISTORY).open() as file:
        history = [{**row, "seconds": ""} for row in csv.DictReader(file)]
    metrics = json.loads((run_dir / runs.METRICS).read_text())
    return load_file(run_dir / runs.WEIGHTS), history, {**metrics, "seconds": 0}


def assert_same(first: Path, second: Path) -> None:
    """Bit for bit."""
    (weights, *others), (expected, *expected_others) = results(first), results(second)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)
    assert others == expected_others


@each_variant
def test_killed_in_the_middle_of_an_epoch(variant: str, tmp_path: Path) -> None:
    task, settings = VARIANTS[variant]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    ran = subprocess.run([sys.executable, "-c", KILLED, variant, str(killed)], check=False)
    assert ran.returncode == -signal.SIGKILL
    assert len(load(killed).training["history"]) == 3
    assert not (killed / runs.METRICS).exists()

    torch.rand(7)  # what others have drawn does not matter
    seen = []
    train(task, settings, killed, name="recall", resume=True, on_epoch=seen.append)
    train(task, settings, whole, name="recall")

    assert_same(killed, whole)
    assert [epoch.epoch for epoch in seen] == list(range(1, len(seen) + 1))


def test_dropout_and_noise_matter_here(tmp_path: Path) -> None:
    """Else the tests above could not see whether their generators go on."""
    settings = Settings(epochs=2)
    tasks = {
        "both": Recall(dropout=0.3, noise=0.3),
        "noise": Recall(noise=0.3),
        "dropout": Recall(dropout=0.3, noise=0.0),
    }
    for name, task in tasks.items():
        train(task, settings, tmp_path / name, name="recall")
    losses = {results(tmp_path / name)[1][-1]["loss"] for name in tasks}

    assert len(losses) == 3


def test_training_leaves_torchs_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    train(Recall(dropout=0.3), Settings(epochs=1), tmp_path, name="recall")

    assert torch.equal(torch.rand(3), expected)


def test_a_finished_run_is_resumed_to_itself(tmp_path: Path) -> None:
    task, settings = VARIANTS["whole sequences"]
    first = train(task, settings, tmp_path / "run", name="recall")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    steps: list[None] = []

    again = train(
        task,
        settings,
        tmp_path / "run",
        name="recall",
        resume=True,
        on_step=lambda: steps.append(None),
    )

    assert (again, steps) == (first, [])
    assert_same(tmp_path / "run", tmp_path / "copy")


def test_interrupted_after_the_last_epoch(tmp_path: Path) -> None:
    """All is trained, but nothing is written yet: resuming does that."""
    task, settings = VARIANTS["whole sequences"]
    train(task, settings, tmp_path / "whole", name="recall")
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    runs.clear(tmp_path / "run")

    train(task, settings, tmp_path / "run", name="recall", resume=True)

    assert_same(tmp_path / "run", tmp_path / "whole")


def test_there_is_a_checkpoint_before_the_first_epoch_is_over(tmp_path: Path) -> None:
    def interrupt(number: int) -> None:
        raise KeyboardInterrupt

    settings = Settings(epochs=2)
    with pytest.raises(KeyboardInterrupt):
        train(Recall(in_batch=interrupt), settings, tmp_path / "run", name="recall")

    train(Recall(), settings, tmp_path / "run", name="recall", resume=True)
    train(Recall(), settings, tmp_path / "whole", name="recall")

    assert_same(tmp_path / "run", tmp_path / "whole")


def test_starting_anew_removes_what_was_there(tmp_path: Path) -> None:
    def interrupt(number: int) -> None:
        raise KeyboardInterrupt

    train(Recall(), Settings(epochs=2), tmp_path, name="recall")
    with pytest.raises(KeyboardInterrupt):
        train(Recall(in_batch=interrupt), Settings(epochs=2), tmp_path, name="recall", seed=1)

    with pytest.raises(runs.RunError, match="is not a run"):
        runs.load(tmp_path)
    assert load(tmp_path).begun["seed"] == 1


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"was begun with seed 0, not 1\. Resume it as it was begun"),
        ({"name": "other"}, "example 'recall', not 'other'"),
        ({"settings": Settings(epochs=3)}, "epochs 2, not 3"),
        (
            {"settings": Settings(epochs=2, learning_rate=0.1, chunk=None, clip_norm=2.0)},
            r"clip_norm 1\.0, not 2\.0; learning_rate 0\.003, not 0\.1",
        ),
        ({"task": Recall(units=9)}, "is another model's or another version's"),
    ],
)
def test_other_settings(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    arguments = {"task": Recall(), "settings": Settings(epochs=2), "name": "recall"}
    train(output=tmp_path, **arguments)

    with pytest.raises(ResumeError, match=message):
        train(output=tmp_path, resume=True, **{**arguments, **changes})


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=f"nothing to resume in {tmp_path}: it has no"):
        train(Recall(), Settings(), tmp_path, name="recall", resume=True)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04"])
def test_a_broken_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)

    with pytest.raises(ResumeError, match=r"checkpoint\.pt is not a checkpoint"):
        train(Recall(), Settings(), tmp_path, name="recall", resume=True)


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(2)}, tmp_path / CHECKPOINT)

    with pytest.raises(ResumeError, match=r"checkpoint\.pt is not a checkpoint: 'begun'"):
        train(Recall(), Settings(), tmp_path, name="recall", resume=True)


def test_a_checkpoint_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """What cannot be written leaves the last one as it was."""
    train(Recall(), Settings(epochs=1), tmp_path, name="recall")
    before = (tmp_path / CHECKPOINT).read_bytes()

    with pytest.raises(AttributeError):
        save(tmp_path, Checkpoint({"example": "x"}, {"unpicklable": lambda: None}))

    assert (tmp_path / CHECKPOINT).read_bytes() == before
