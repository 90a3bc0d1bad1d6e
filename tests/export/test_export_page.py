"""docs/export.md: its model is exported as it says, and its options are those of the command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from export.options import Options

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
(SNIPPET,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_model_lands_in_the_repository(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", SNIPPET],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    config = (tmp_path / "repository" / "gestures" / "config.pbtxt").read_text()
    assert 'input_name: "gru_h"' in config
    assert "rnnserve.may_be_cut" in config


def test_every_option_is_explained_and_is_one() -> None:
    explained = set(re.findall(r"^    - `(\w+)`:", Options.__doc__ or "", re.MULTILINE))
    assert explained == set(Options.__annotations__)
