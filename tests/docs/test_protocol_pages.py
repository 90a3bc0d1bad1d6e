"""docs/protocol.md, open-inference.md and repository.md say what the code does: kinds of errors,
calls that are offered, keys of a configuration, and an example that runs.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rnnserve.v1 import session_pb2
from server.errors import InvalidRequest, RequestError
from server.repository import parameters
from server.repository.config import parse
from server.repository.fields import check_fields
from server.repository.options import run_options
from server.repository.parameters import read_parameters
from server.repository.problem import Problem
from server.rpc.status import STATUS
from server.stubs.inference import grpc_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
PROTOCOL, OPEN_INFERENCE, REPOSITORY = (
    (DOCS / name).read_text() for name in ("protocol.md", "open-inference.md", "repository.md")
)


def section(page: str, heading: str) -> str:
    return page.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of the tables, without heads."""
    for line in re.findall(r"^\| ?(.*?) ?\|$", text, re.MULTILINE):
        cells = line.split(" | ")
        if "`" in cells[0]:
            yield cells


def names(text: str) -> list[str]:
    return re.findall(r"`([\w.<>]+)`", text)


def test_every_kind_of_error_with_its_status() -> None:
    table = {names(kind)[0]: status for kind, status, _ in rows(section(PROTOCOL, "Errors"))}
    assert table == {kind.__name__: code.name for kind, code in STATUS.items()}
    assert issubclass(InvalidRequest, RequestError)


def test_every_call_of_our_own() -> None:
    service = session_pb2.DESCRIPTOR.services_by_name["SessionService"]
    table = [name for cells in rows(section(PROTOCOL, "Sessions")) for name in names(cells[0])]
    assert sorted(table) == sorted(service.methods_by_name)


def test_every_open_inference_call() -> None:
    service = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    listed = [name for cells in rows(section(OPEN_INFERENCE, "Calls")) for name in names(cells[0])]
    assert sorted(listed) == sorted(service.methods_by_name)


def test_every_key_of_the_configuration() -> None:
    table = {names(cells[0])[0] for cells in rows(REPOSITORY.split("\n## ")[0])}
    assert table == set(parameters.KEYS)


def test_every_parameter_for_onnx_runtime_is_read() -> None:
    """Each of them refuses a value that means nothing."""
    table = [
        n
        for cells in rows(section(REPOSITORY, "How ONNX Runtime runs the model"))
        for n in names(cells[0])
    ]
    keys = [name for name in table if not name.startswith(("optimization.", "instance_group."))]
    assert len(keys) == 10
    for key in keys:
        text = f'parameters {{ key: "{key}" value {{ string_value: "nothing" }} }}'
        with pytest.raises(Problem, match=f"^parameters: {key}: 'nothing'; expected"):
            run_options(parse(text, "docs/repository.md"))


def test_the_configuration_shown_is_accepted() -> None:
    (text,) = re.findall(r"```\n(max_batch_size.*?)```", REPOSITORY, re.DOTALL)
    config = parse(text, "docs/repository.md")
    check_fields(config)
    assert read_parameters(config).may_be_cut


@pytest.mark.parametrize(
    "text",
    [
        "ensemble_scheduling { step { model_name: 'a' } }",
        "batch_input { }",
        "model_transaction_policy { decoupled: true }",
    ],
)
def test_what_is_said_to_be_refused_is(text: str) -> None:
    with pytest.raises(Problem, match="not supported"):
        check_fields(parse(text, "docs/repository.md"))


def test_the_example_prints_what_the_page_says(vowels: str) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", PROTOCOL, re.DOTALL)
    code = snippet.replace("localhost:8001", vowels)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"prints `{ran.stdout.strip()}`" in PROTOCOL, ran.stderr
