"""docs/sessions.md says what the code does: the limits with their defaults, the kinds of errors,
numbers in the text, and examples that run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rnnserve.v1 import session_pb2
from server import errors
from server.config import LimitsConfig
from server.core import records, remembered
from server.rpc import beginnings, handles

PAGE = (Path(__file__).parents[2] / "docs" / "sessions.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n\nprints (.*?)\.\n", PAGE, re.DOTALL)


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_every_limit_with_its_default() -> None:
    table = re.findall(r"^\| `(\w+)` \| (\d+) \|", section("Limits"), re.MULTILINE)
    defaults = {name: field.default for name, field in LimitsConfig.model_fields.items()}
    assert {name: int(default) for name, default in table} == defaults


def test_every_kind_of_error_that_is_named_exists() -> None:
    kinds = {kind.__name__ for kind in errors.RequestError.__subclasses__()}
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", PAGE))
    calls = set(session_pb2.DESCRIPTOR.services_by_name["SessionService"].methods_by_name)
    assert named <= kinds | calls
    assert {"StepGap", "StepForgotten", "StepConflict", "SnapshotRefused"} <= named


def test_every_message_for_many_sessions() -> None:
    table = re.findall(r"^\| `(\w+)` \|", section("Frames"), re.MULTILINE)
    actions = session_pb2.StreamRequest.DESCRIPTOR.oneofs_by_name["action"].fields
    single = {"open", "resume", "step", "reset", "close"}
    assert set(table) == {field.name for field in actions} - single


def test_numbers_in_the_text() -> None:
    assert remembered.MAX_PER_SESSION == records.MAX_DEPTH == 64
    assert "The last 64 answers" in PAGE
    assert f"at most {beginnings.MAX_TOKEN_BYTES} bytes" in PAGE
    assert f"below {handles.MAX_IN_FRAMES:,}" in PAGE


@pytest.mark.parametrize("number", range(2))
def test_an_example_prints_what_the_page_says(vowels: str, number: int) -> None:
    snippet, printed = EXAMPLES[number]
    code = snippet.replace("localhost:8001", vowels)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == re.findall(r"`(.*?)`", printed), ran.stderr


def test_both_examples_were_found() -> None:
    assert len(EXAMPLES) == PAGE.count("```python\n") == 2
