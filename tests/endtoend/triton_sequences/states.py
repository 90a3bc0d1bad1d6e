"""States: several of them paired by name, of every type, from files, and shown where asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferRequestedOutput

from tests.endtoend.triton_sequences.talk import inputs_of, refusal, request

DTYPES = {
    "half": np.float16,
    "double": np.float64,
    "tiny": np.int8,
    "byte": np.uint8,
    "short": np.int16,
    "long": np.int64,
    "flip": np.bool_,
}


def seen(client: Any, model: str, x: Any, sequence: int, flags: str = "") -> Any:
    return client.infer(**request(model, np.asarray(x), sequence, flags)).as_numpy("seen")


def asked(*names: str) -> list[Any]:
    return [InferRequestedOutput(name) for name in names]


def test_states_are_paired_by_name(client: Any, sequence: int) -> None:
    """a ← a + x, b ← 2 b + x, c ← 3 c + x, through outputs that sort the other way round."""
    x = np.float32([[1]])
    expected = [[0, 0, 0], [1, 1, 1], [2, 3, 4], [3, 7, 13], [4, 15, 40]]
    flags = ["start", "", "", "", "end"]
    got = [seen(client, "crossed", x, sequence, flag)[0].tolist() for flag in flags]
    assert got == expected


def test_states_as_outputs_on_request(client: Any, sequence: int) -> None:
    """Those that the configuration lists among the outputs, in the order asked for."""
    x = np.float32([[2]])
    result = client.infer(**request("crossed_shown", x, sequence, "start"))
    names = [output.name for output in result.get_response().outputs]
    assert names == ["seen", "o2", "o3"]
    result = client.infer(
        **request("crossed_shown", x, sequence), outputs=asked("o3", "seen", "o2")
    )
    assert [output.name for output in result.get_response().outputs] == ["o3", "seen", "o2"]
    values = [result.as_numpy(name).tolist() for name in ("seen", "o2", "o3")]
    assert values == [[[2, 2, 2]], [[6]], [[4]]]  # what stays is what is shown
    assert seen(client, "crossed_shown", x, sequence, "end").tolist() == [[4, 6, 8]]


@pytest.mark.parametrize(("model", "name"), [("crossed", "o3"), ("crossed_shown", "o1")])
def test_other_states_are_no_outputs(client: Any, sequence: int, model: str, name: str) -> None:
    sent = request(model, np.float32([[2]]), sequence, "start end", outputs=asked("seen", name))
    text = f"unexpected inference output '{name}' for model '{model}'"
    assert refusal(client.infer, **sent) == ("INVALID_ARGUMENT", text)


def test_an_output_alone(client: Any, sequence: int) -> None:
    sent = request("crossed_shown", np.float32([[2]]), sequence, "start end", outputs=asked("o3"))
    result = client.infer(**sent)
    assert result.as_numpy("o3").tolist() == [[2]]
    assert result.as_numpy("seen") is None


def test_states_of_every_type(client: Any, sequence: int) -> None:
    x = np.array([[1.0]])
    for count, flags in enumerate(["start", "", "", "end"]):
        result = client.infer(**request("counters", x, sequence, flags))
        assert result.as_numpy("seen").tolist() == [[count] * 6 + [count % 2]]
        for name, dtype in DTYPES.items():
            shown = result.as_numpy(f"{name}_next")
            assert (shown.dtype, shown.shape) == (dtype, (1, 1))
            assert shown.item() == ((count + 1) % 2 if name == "flip" else count + 1)


def test_small_types_keep_every_value(client: Any, sequence: int) -> None:
    """To the edge of each, and what has no fraction is no float on the way."""
    assert seen(client, "counters", [[100.0]], sequence, "start").tolist() == [[0] * 7]
    result = client.infer(**request("counters", np.array([[27.0]]), sequence))
    assert result.as_numpy("tiny_next").item() == 127
    assert seen(client, "counters", [[0.0]], sequence, "end").tolist() == [[127] * 6 + [0]]


@pytest.mark.parametrize("shape", [(1, 1), (1,)], ids=["from_files", "from_files_alone"])
def test_initial_states(client: Any, sequence: int, shape: tuple[int, ...]) -> None:
    """One from a file, one of zeros, one unsaid; where `dims` say -1, they have its size."""
    model = "from_files" if len(shape) == 2 else "from_files_alone"
    x = np.full(shape, 10, np.float32)
    start = np.float32([7, -8, 0.5, 0, 0, 0, 0, 0, 0])
    for _ in range(2):  # a new START finds them as they were
        for count, flags in enumerate(["start", "", ""]):
            got = seen(client, model, x, sequence, flags)
            assert got.ravel().tolist() == (start + 10 * count).tolist()
            assert got.ndim == len(shape)
    assert seen(client, model, x, sequence, "end").ravel().tolist() == (start + 30).tolist()


def test_initial_states_of_several_rows(client: Any, sequence: int) -> None:
    start = np.float32([7, -8, 0.5, 0, 0, 0, 0, 0, 0])
    x = np.float32([[1], [100]])
    assert seen(client, "from_files", x, sequence, "start").tolist() == [start.tolist()] * 2
    got = seen(client, "from_files", x, sequence, "end")
    assert got.tolist() == [(start + 1).tolist(), (start + 100).tolist()]


def test_a_state_of_any_size_has_size_one(client: Any, sequence: int) -> None:
    """Where nobody says more. Requests may have any size, unless the state would change its own."""

    def step(flags: str, *x: float) -> Any:
        inputs = inputs_of(x=np.float32([x]), y=np.float32([[1]]))
        sent = request("any_size", 0, sequence, flags) | {"inputs": inputs}
        return client.infer(**sent).as_numpy("sum").tolist()

    assert step("start", 5) == [[5]]
    code, text = refusal(step, "", 5, 6)
    assert code == "INVALID_ARGUMENT"
    assert "it gave state 'total' another shape than [1] for each row" in text
    assert step("end", 10) == [[16]]


def test_states_in_metadata_and_configuration(client: Any) -> None:
    """Hidden in the one, whole in the other."""
    for model, outputs in (("crossed", ["seen"]), ("crossed_shown", ["seen", "o2", "o3"])):
        metadata = client.get_model_metadata(model)
        config = client.get_model_config(model).config
        assert [t.name for t in metadata.inputs] == [t.name for t in config.input] == ["x"]
        assert [t.name for t in metadata.outputs] == [t.name for t in config.output] == outputs
        pairs = [(s.input_name, s.output_name) for s in config.sequence_batching.state]
        assert pairs == [("c", "o1"), ("a", "o3"), ("b", "o2")]
    metadata = client.get_model_metadata("crossed_shown")
    assert [list(t.shape) for t in metadata.outputs] == [[-1, 3], [-1, 1], [-1, 1]]
    states = client.get_model_config("from_files").config.sequence_batching.state
    assert states[0].initial_state[0].data_file == "three"
    assert states[1].initial_state[0].zero_data
