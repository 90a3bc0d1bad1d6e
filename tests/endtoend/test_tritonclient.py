"""The real `tritonclient[grpc]`, unmodified, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def own_server(start: Any, one_at_a_time: Path) -> Any:
    """Runs requests one by one, so that outputs are exact; and nobody else's are counted."""
    return start(one_at_a_time).wait_until_serving()


@pytest.fixture(scope="module")
def seen(own_server: Any, utterances: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the script saw."""
    file = tmp_path_factory.mktemp("triton") / "utterances.npz"
    np.savez(file, *utterances)
    command = [sys.executable, str(HERE / "triton_script.py"), own_server.grpc, str(file)]
    script = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd="/")
    assert script.returncode == 0, script.stderr
    return json.loads(script.stdout)


def exact(got: Any, expected: Any) -> bool:
    """Bit for bit; JSON keeps all digits."""
    return np.array(got, np.float32).tobytes() == expected.tobytes()


def test_server_and_model_are_there(seen: Any) -> None:
    asked = seen["asked"]
    ready = {key: asked[key] for key in asked if key.endswith(("live", "ready", "_1"))}
    assert ready == {
        "live": True,
        "ready": True,
        "model_ready": True,
        "model_ready_1": True,
        "other_ready": False,
    }
    assert asked["server"]["name"] == "rnnserve"
    assert {"sequence", "statistics"} <= set(asked["server"]["extensions"])


def test_metadata_and_configuration(seen: Any) -> None:
    metadata, config = seen["asked"]["metadata"], seen["asked"]["config"]
    assert metadata == {
        "name": "vowels",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "frames", "datatype": "FP32", "shape": ["-1", "-1", "12"]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": ["-1", "-1", "9"]}],
    }
    assert (config["name"], config["max_batch_size"]) == ("vowels", 1)
    assert [tensor["name"] for tensor in config["input"]] == ["frames"]
    states = config["sequence_batching"]["state"]
    assert [(s["input_name"], s["output_name"]) for s in states] == [
        ("lstm_h", "lstm_h_next"),
        ("lstm_c", "lstm_c_next"),
    ]
    assert "oldest" in config["sequence_batching"]


def test_sequences_by_infer(seen: Any, alone: Any, utterances: Any) -> None:
    got = seen["infer"]["outputs"]
    assert all(exact(g, alone(u)) for g, u in zip(got, utterances[:5], strict=True))


def test_sequences_by_stream(seen: Any, alone: Any, utterances: Any) -> None:
    stream = seen["stream"]
    assert all(exact(g, alone(u)) for g, u in zip(stream["outputs"], utterances, strict=True))
    longest = max(map(len, utterances))
    sent = [f"{n}/{t}" for t in range(longest) for n, u in enumerate(utterances) if t < len(u)]
    assert stream["order"] == sent
    assert stream["error"].startswith(
        "inference request for sequence 5000 to model 'vowels' must specify the START flag"
    )
    assert np.abs(np.array(stream["after"]) - alone(utterances[0])).max() <= 1e-6


def test_a_stream_that_is_dropped(seen: Any, alone: Any, utterances: Any) -> None:
    assert np.abs(np.array(seen["cancelled"]["after"]) - alone(utterances[0])).max() <= 1e-6


def test_asyncio(seen: Any, alone: Any, utterances: Any) -> None:
    got = seen["aio"]["outputs"]
    assert all(exact(g, alone(u)) for g, u in zip(got, utterances, strict=True))
    assert exact(seen["aio"]["streamed"], alone(utterances[0]))


def test_both_clients_in_one_process(seen: Any, alone: Any, utterances: Any) -> None:
    assert exact(seen["both"]["ours"], alone(utterances[0]))
    assert np.abs(np.array(seen["both"]["theirs"]) - alone(utterances[0])).max() <= 1e-6


REFUSED = {
    "no START": (
        "INVALID_ARGUMENT",
        "inference request for sequence 9000 to model 'vowels' must specify the START flag",
    ),
    "no id": (
        "INVALID_ARGUMENT",
        "inference request to model 'vowels' must specify a non-zero or non-empty correlation ID",
    ),
    "type": (
        "INVALID_ARGUMENT",
        "inference input 'frames' data-type is 'INT32', but model 'vowels' expects 'FP32'",
    ),
    "shape": (
        "INVALID_ARGUMENT",
        "unexpected shape for input 'frames' for model 'vowels'. Expected [-1,-1,12], got [1,1,11]",
    ),
    "output": ("INVALID_ARGUMENT", "unexpected inference output 'other' for model 'vowels'"),
    "model": ("NOT_FOUND", "Request for unknown model: 'other' is not found"),
    "version": ("NOT_FOUND", "Request for unknown model: 'vowels' version 2 is not found"),
    "metadata": ("NOT_FOUND", "Request for unknown model: 'other' is not found"),
    "load": ("UNAVAILABLE", "explicit model load / unload is not allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(seen: Any, case: str) -> None:
    code, text = REFUSED[case]
    assert seen["refused"][case][0] == f"StatusCode.{code}"
    assert seen["refused"][case][1].startswith(text)


def test_statistics(seen: Any, utterances: Any) -> None:
    (model,) = seen["statistics"]
    assert (model["name"], model["version"]) == ("vowels", "1")
    frames = sum(map(len, utterances))
    # by infer; by stream, and one more; after the cancelled stream; ours and theirs; asyncio
    first = len(utterances[0])
    least = sum(map(len, utterances[:5])) + frames + 1 + 1 + first + 1 + frames + first
    count = int(model["inference_count"])
    assert least <= count <= least + first  # some of the cancelled ones may have run
    stats = model["inference_stats"]
    parts = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    assert {int(stats[part]["count"]) for part in parts} == {count}
    assert int(stats["success"]["ns"]) > int(stats["compute_infer"]["ns"]) > 0
    assert [int(batch["batch_size"]) for batch in model["batch_stats"]] == [1]


def test_no_sequence_is_left(seen: Any, own_server: Any) -> None:
    assert own_server.metric("rnnserve_sessions") == 0
    assert own_server.metric("rnnserve_pending_requests") == 0
