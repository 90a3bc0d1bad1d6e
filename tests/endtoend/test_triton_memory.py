"""Shared memory and classes with the real `tritonclient`, unmodified, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
# over it a stream's client has no address, and is not known to be on this host
OPTIONS = ("--shared-memory", "all") if os.environ.get("RNNSERVE_TRANSPORT") == "native" else ()


@pytest.fixture(scope="module")
def own_server(start: Any, one_at_a_time: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs requests one by one, so that outputs are exact; and its classes have labels."""
    repository = tmp_path_factory.mktemp("labelled") / "repository"
    shutil.copytree(one_at_a_time, repository)
    labels = "".join(f"speaker {number}\n" for number in range(9))
    (repository / "vowels" / "labels.txt").write_text(labels)
    config = repository / "vowels" / "config.pbtxt"
    name = 'name: "probabilities"\n'
    assert config.read_text().count(name) == 1
    config.write_text(config.read_text().replace(name, name + 'label_filename: "labels.txt"\n'))
    return start(repository, *OPTIONS).wait_until_serving()


@pytest.fixture(scope="module")
def seen(own_server: Any, utterances: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the script saw."""
    file = tmp_path_factory.mktemp("memory") / "utterances.npz"
    np.savez(file, *utterances)
    command = [sys.executable, str(HERE / "triton_memory_script.py"), own_server.grpc, str(file)]
    script = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd="/")
    assert script.returncode == 0, script.stderr
    assert "leaked" not in script.stderr
    return json.loads(script.stdout)


def exact(got: Any, expected: Any) -> bool:
    """Bit for bit; JSON keeps all digits."""
    return np.array(got, np.float32).tobytes() == expected.tobytes()


def test_regions_are_listed(seen: Any) -> None:
    assert seen["status"] == {
        name: {"name": name, "key": key, "byte_size": "3072"} for name, key in seen["keys"].items()
    }
    assert seen["left"] == {}


def test_step_by_step(seen: Any, alone: Any, utterances: Any) -> None:
    infer = seen["infer"]
    assert exact(infer["rows"], alone(utterances[0]))
    assert (infer["raw"], infer["shape"], infer["datatype"]) == ([0], [1, 1, 9], "FP32")


def test_in_a_stream(seen: Any, alone: Any, utterances: Any) -> None:
    assert seen["stream"]["errors"] == []
    assert exact(seen["stream"]["rows"], alone(utterances[0]))


def test_asyncio_and_offsets(seen: Any, alone: Any, utterances: Any) -> None:
    aio = seen["aio"]
    assert exact(aio["rows"], alone(utterances[0]))
    (region,) = aio["status"]["regions"].values()
    assert (region["name"], region["offset"]) == ("aio in", str(aio["offset"]))


def test_classes(seen: Any, alone: Any, utterances: Any) -> None:
    (row,) = alone(utterances[0][:1])
    best = np.argsort(-row)[:3]
    expected = [f"{row[index]:f}:{index}:speaker {index}" for index in best]
    assert seen["classes"] == {"shape": [1, 3], "texts": expected}


def test_extensions_and_cuda(seen: Any) -> None:
    assert {"system_shared_memory", "classification"} <= set(seen["extensions"])
    assert seen["cuda"] == {}


REFUSED = {
    "twice": ("ALREADY_EXISTS", "shared memory region 'in' already in manager"),
    "too long": ("INVALID_ARGUMENT", "failed to register shared memory region 'long': invalid arg"),
    "no segment": ("NOT_FOUND", "Unable to open shared memory region: '/rnnserve-nowhere'"),
    "elsewhere": ("INVALID_ARGUMENT", "failed to register shared memory region 'none': invalid ar"),
    "status": ("NOT_FOUND", "Unable to find system shared memory region: 'none'"),
    "no region": ("NOT_FOUND", "Unable to find shared memory region: 'none'"),
    "offset": ("INVALID_ARGUMENT", "Invalid offset for shared memory region: 'out'"),
    "bounds": ("INVALID_ARGUMENT", "Invalid offset + byte size for shared memory region: 'out'"),
    "too small": (
        "INVALID_ARGUMENT",
        "shared memory size specified with the request for output 'probabilities' (35 bytes)",
    ),
    "too large": (
        "INVALID_ARGUMENT",
        "input byte size mismatch for input 'frames' for model 'vowels'. Expected 48, got 52",
    ),
    "cuda": ("UNIMPLEMENTED", "failed to register CUDA shared memory region: 'c'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(seen: Any, case: str) -> None:
    code, text = REFUSED[case]
    assert seen["refused"][case][0] == f"StatusCode.{code}"
    assert seen["refused"][case][1].startswith(text)


def test_nothing_is_left(seen: Any, own_server: Any) -> None:
    assert own_server.metric("rnnserve_sessions") == 0
    assert own_server.metric("rnnserve_pending_requests") == 0
    assert not [key for key in seen["keys"].values() if Path("/dev/shm", key[1:]).exists()]
