"""What the README tells people to do works: its snippets run against a real server, its commands,
options, links and files exist. The other documents' links and commands are checked alike.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo.server_process import RNNSERVE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "client/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)

SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
OWN_MODEL, FROM_PYTHON, GROUP, WITH_TRITONCLIENT = SNIPPETS


def run(snippet: str, address: str, directory: Path) -> str:
    """What the snippet prints, with the given server in place of the one it names."""
    code = snippet.replace("localhost:8001", address)
    ran = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code],
        cwd=directory,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_both_clients_get_the_same_answer(vowels: str, tmp_path: Path) -> None:
    """Both snippets send the same frames, one by one."""
    ours = run(FROM_PYTHON, vowels, tmp_path)
    theirs = run(WITH_TRITONCLIENT, vowels, tmp_path)
    assert ours.split() == [theirs.strip(), "20"]


def test_a_thousand_sessions_step_with_one_call(vowels: str, tmp_path: Path) -> None:
    shape = "\nprint(probabilities.shape)"
    code = "import numpy as np\nimport rnnserve\n" + GROUP + shape
    assert run(code, vowels, tmp_path).strip() == "(1000, 9)"


def test_a_model_of_ones_own_lands_in_the_repository(tmp_path: Path) -> None:
    run(OWN_MODEL, "", tmp_path)
    assert (tmp_path / "repository" / "gestures" / "config.pbtxt").is_file()
    assert (tmp_path / "repository" / "gestures" / "1" / "model.onnx").is_file()


def commands(text: str) -> list[list[str]]:
    """The rnnserve commands in code, split into words; each begins with the subcommand."""
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^[ ]*(rnnserve .*)$", text, re.MULTILINE)
    found = [line.split() for line in code if re.match(r"rnnserve [a-z]", line)]
    return [words[1:] for words in found]


@each_document
def test_commands_and_options_exist(document: Path) -> None:
    for subcommand, *words in commands(document.read_text()):
        text = help_of(subcommand)
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"{option}\b", text), f"rnnserve {subcommand} {option}"


@functools.cache
def help_of(subcommand: str) -> str:
    environment = {**os.environ, "COLUMNS": "200"}
    command = [RNNSERVE, subcommand, "--help"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"rnnserve {subcommand}: {ran.stderr}"
    return ran.stdout


def test_the_readme_shows_the_whole_way() -> None:
    shown = [subcommand for subcommand, *_ in commands(README)[-5:]]
    assert shown == ["train", "export", "serve", "inspect", "add"]


@each_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    named = re.findall(r"(?:`|^ +)make ([a-z]+)", text, re.MULTILINE)
    assert set(named) <= targets
    if document == ROOT / "README.md":
        assert named[:2] == ["demo", "test"], "what a newcomer does comes first"


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path) if path else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@each_document
def test_files_that_are_named_exist(document: Path) -> None:
    """Paths in code that begin with one of the project's folders."""
    folders = "server|models|export|client|demo|bench|tests|docs|deploy|proto"
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for path in re.findall(rf"`((?:{folders})/[\w./*-]*)", text):
        assert list(ROOT.glob(path.rstrip("/"))), path
