"""Trace and log settings by the real `tritonclient`, of one process and of several."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TRACES = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "log_frequency": ["0"],
    "trace_file": [""],
    "trace_mode": ["triton"],
}
LOGS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


@pytest.fixture(scope="module", params=[(), ("--processes", "3"), ("--transport", "grpcio")])
def own_server(request: Any, start: Any, repository: Path) -> Any:
    return start(repository, *request.param).wait_until_serving()


@pytest.fixture
def seen(own_server: Any, script: Any) -> Any:
    """What the script saw."""
    with script("triton_settings.py", own_server.grpc) as process:
        out = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    return json.loads(out)


def test_as_the_client_documents_them(own_server: Any, seen: Any) -> None:
    assert {"trace", "logging"} <= set(seen["extensions"])
    traces, logs, aio = seen["traces"], seen["logs"], seen["aio"]
    own = {"trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": ["5"], "log_frequency": ["2"]}
    everybody = {"trace_count": ["9"], "trace_rate": ["6"]}
    assert traces == {
        "first": TRACES,
        "model": TRACES | own,
        "all": TRACES | everybody,
        "model then": TRACES | everybody | own,
        "all then": TRACES | everybody,
        "unknown model": ["StatusCode.NOT_FOUND", traces["unknown model"][1]],
        "unknown setting": ["StatusCode.INVALID_ARGUMENT", traces["unknown setting"][1]],
        "last": TRACES,
    }
    assert traces["unknown model"][1] == "Request for unknown model: 'nobody' is not found"
    assert "'rate'" in traces["unknown setting"][1]
    changed = {"log_info": False, "log_verbose_level": 1}
    assert logs == {
        "first": LOGS,
        "changed": LOGS | changed,
        "then": LOGS | changed,
        "file": ["StatusCode.UNIMPLEMENTED", logs["file"][1]],
        "format": ["StatusCode.INVALID_ARGUMENT", logs["format"][1]],
        "cleared": ["StatusCode.INVALID_ARGUMENT", logs["cleared"][1]],
        "last": LOGS,
    }
    assert "log file location can not be updated" in logs["file"][1]
    assert aio == {
        "traces": TRACES,
        "trace changed": TRACES | {"trace_rate": ["3"]},
        "trace cleared": TRACES,
        "logs": LOGS,
        "log changed": LOGS,
    }
    said = [event["event"] for event in own_server.events()]
    assert any("no trace is written" in event for event in said)
    assert any("a client changes what is logged" in event for event in said)
