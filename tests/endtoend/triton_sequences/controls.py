"""What a model is told of its sequences: START, READY, END, CORRID, in every type that it may ask
for, batched or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tritonclient.grpc import InferRequestedOutput

from tests.endtoend.triton_sequences.talk import inputs_of, refusal, request, stream

if TYPE_CHECKING:
    from collections.abc import Callable

DTYPES = {"int32": np.int32, "fp32": np.float32, "bool": np.int32, "int64": np.int64}
START, MIDDLE, END, WHOLE = [1, 1, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]


@pytest.mark.parametrize("shape", [(1, 1), (1,)], ids=["batched", "alone"])
@pytest.mark.parametrize("kind", DTYPES)
def test_flags_of_every_type(client: Any, sequence: int, kind: str, shape: tuple[int, ...]) -> None:
    model = f"sums_{kind}" if len(shape) == 2 else f"sums_{kind}_alone"
    flags = ["start", "", "", "end", "start end", "start", "start", "end"]
    told = [START, MIDDLE, MIDDLE, END, WHOLE, START, START, END]
    for flag, expected in zip(flags, told, strict=True):
        result = client.infer(**request(model, np.ones(shape, DTYPES[kind]), sequence, flag))
        assert result.as_numpy("flags").tolist() == ([expected] if len(shape) == 2 else expected)
        assert result.as_numpy("id").shape == shape
        assert result.as_numpy("id").item() == sequence
        assert result.as_numpy("sum").dtype == DTYPES[kind]


def test_every_row_is_told(client: Any, sequence: int) -> None:
    result = client.infer(**request("sums_int32", np.ones((3, 1), np.int32), sequence, "start end"))
    assert result.as_numpy("flags").tolist() == [WHOLE] * 3
    assert result.as_numpy("id").tolist() == [[sequence]] * 3


def test_controls_without_a_state(client: Any, sequence: int) -> None:
    x = np.float32([[2.5]])
    for flags, told in (("start", START), ("", MIDDLE), ("start", START), ("end", END)):
        result = client.infer(**request("told", x, sequence, flags))
        assert result.as_numpy("flags").tolist() == [told]
        assert result.as_numpy("y").tolist() == [[2.5]]
    assert "must specify the START flag" in refusal(client.infer, **request("told", x, sequence))[1]


def test_other_values_than_zero_and_one(client: Any, sequence: int) -> None:
    for flags, told in (("start", [-1, 7, -3]), ("", [5, 7, -3]), ("end", [5, 7, 2])):
        result = client.infer(**request("odd_flags", np.float32([[1]]), sequence, flags))
        assert result.as_numpy("flags").tolist() == [told]


def test_a_refused_request_leaves_start_for_the_next(client: Any, sequence: int) -> None:
    wrong = request("sums_int32", 1, sequence, "start", outputs=[InferRequestedOutput("other")])
    refusal(client.infer, **wrong)
    result = client.infer(**request("sums_int32", 1, sequence, "start"))
    assert result.as_numpy("flags").tolist() == [START]
    refusal(client.infer, **wrong | {"sequence_start": False, "sequence_end": True})
    result = client.infer(**request("sums_int32", 1, sequence, "end"))
    assert result.as_numpy("flags").tolist() == [END]


def test_sequences_in_one_batch_are_told_apart(address: str, new_id: Callable[[], int]) -> None:
    """Each row of a batch has its own flags, whoever else is in it."""
    lengths = {new_id(): 1 + n % 5 for n in range(24)}
    steps = [(id, t) for t in range(5) for id in lengths if t < lengths[id]]
    with stream(address) as (client, answers):
        for id, t in steps:
            flags = ("start " if t == 0 else "") + ("end" if t == lengths[id] - 1 else "")
            client.async_stream_infer(**request("sums_int32", id, id, flags))
        results = [answers.next() for _ in steps]
    told = [[int(t == 0), 1, int(t == lengths[id] - 1)] for id, t in steps]
    assert [r.as_numpy("flags")[0].tolist() for r in results] == told
    assert [r.as_numpy("id").item() for r in results] == [id for id, _ in steps]
    assert [r.as_numpy("sum").item() for r in results] == [id * (t + 1) for id, t in steps]


def test_neither_controls_nor_states_are_shown(client: Any) -> None:
    for model in ("sums_int32", "sums_int32_alone", "sums_bool", "told"):
        metadata = client.get_model_metadata(model)
        config = client.get_model_config(model).config
        assert [tensor.name for tensor in metadata.inputs] == ["x"]
        assert [tensor.name for tensor in config.input] == ["x"]
        assert not {"total_next", "total"} & {tensor.name for tensor in metadata.outputs}
        assert not {"total_next", "total"} & {tensor.name for tensor in config.output}
        controls = {c.name: c for c in config.sequence_batching.control_input}
        assert list(controls) == ["START", "READY", "END", "CORRID"]


@pytest.mark.parametrize("name", ["START", "READY", "END", "CORRID", "total"])
def test_they_are_no_inputs(client: Any, sequence: int, name: str) -> None:
    sent = request("sums_int32", 1, sequence, "start")
    sent["inputs"] += inputs_of(**{name: np.ones((1, 1), np.int32)})
    code, text = refusal(client.infer, **sent)
    assert code == "INVALID_ARGUMENT"
    assert text.startswith(f"unexpected inference input '{name}' for model 'sums_int32'")
