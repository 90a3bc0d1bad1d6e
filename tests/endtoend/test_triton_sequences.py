"""Sequences, as `tritonclient` sees them: the files of triton_sequences/, in a process of their own
and with one server for all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from tests.endtoend import sequence_repository

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
SUITE = Path(__file__).with_name("triton_sequences")
LIMIT_S = 240  # it takes a tenth of that on a quiet machine
FILES = sorted(path.stem for path in SUITE.glob("*.py") if "def test_" in path.read_text())

pytestmark = pytest.mark.timeout(LIMIT_S + 60)  # the first one waits for all


@pytest.fixture(scope="module")
def outcomes(start: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, str]]:
    """Of each file: what went wrong in each of its tests, "" if nothing."""
    directory = tmp_path_factory.mktemp("sequences")
    sequence_repository.write(directory / "repository")
    server = start(directory / "repository").wait_until_serving()
    report = directory / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", *(str(SUITE / f"{file}.py") for file in FILES)]
    addresses = {"RNNSERVE_TEST_GRPC": server.grpc, "RNNSERVE_TEST_HTTP": server.http}
    # the outcome stands in the report, unless it could not even begin
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | addresses,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert report.is_file(), run.stdout + run.stderr
    assert server.metric("rnnserve_pending_requests") == 0
    found: dict[str, dict[str, str]] = {file: {} for file in FILES}
    for case in ElementTree.parse(report).iter("testcase"):
        wrong = [each.text or "" for each in case if each.tag in ("failure", "error", "skipped")]
        file = str(case.get("classname")).rpartition(".")[2]
        found[file][str(case.get("name"))] = "\n".join(wrong)
    return found


@pytest.mark.parametrize("file", FILES)
def test_as_tritonclient_sees_them(outcomes: Mapping[str, dict[str, str]], file: str) -> None:
    assert outcomes[file], "no test has run"
    wrong = {name: text for name, text in outcomes[file].items() if text}
    assert not wrong, "\n\n".join(f"{name}\n{text}" for name, text in wrong.items())
