"""docs/training.md: the task that it shows is one, and prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from models import runs
from models.training import Measured, Random, Settings, Task
from models.training.checkpoint import CHECKPOINT
from models.training.events import FOLDER

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
(SNIPPET,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_task_prints_what_the_page_says(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", SNIPPET],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert f"It prints `{ran.stdout.strip()}`" in PAGE
    model = runs.load(tmp_path / "runs" / "recall").model
    assert (model.input_name, model.output_name) == ("frames", "output")


def test_the_task_is_one() -> None:
    """Every member that the loop asks for, and no other."""
    public = {name for name in vars(Task) if not name.startswith("_")}
    shown = set(re.findall(r"^    def (\w+)|^    (\w+) = ", SNIPPET.split("class Recall")[1], re.M))
    assert {method or attribute for method, attribute in shown} == public


def test_the_files_of_a_run() -> None:
    table = PAGE.split("| in the run folder | |")[1].split("\n\n")[0]
    named = [
        name.rstrip("/")
        for row in re.findall(r"^\| (`.*?`) \|", table, re.M)
        for name in re.findall(r"`([^`]+)`", row)
    ]
    assert set(named) == {
        *(runs.MODEL, runs.WEIGHTS, runs.METRICS, runs.HISTORY, runs.CURVE),
        *(CHECKPOINT, FOLDER),
    }


def test_the_names_in_the_text() -> None:
    settings = {field.name for field in fields(Settings)}
    assert {"chunk", "reset", "patience", "clip_norm"} <= settings
    assert {"numpy", "generator"} == set(re.findall(r"`random\.(\w+)`", PAGE))
    assert set(Random.__annotations__) == {"numpy", "generator"}
    assert {field.name for field in fields(Measured)} == {"loss", "metric", "weight"}
    assert Settings().clip_norm == 1
