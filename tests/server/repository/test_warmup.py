"""What `model_warmup` says. The LSTM takes `frames` (batch, time, 3) and the states h and c."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.errors import StartupError
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from server.repository.spec import WarmupSample
    from tests.server.conftest import LstmModel, MakeModel


def sample(*inputs: str, name: str = "first", batch_size: int = 1, more: str = "") -> str:
    return f'model_warmup {{ name: "{name}" batch_size: {batch_size} {more} {" ".join(inputs)} }}\n'


def given(name: str, dims: list[int], source: str, data_type: str = "TYPE_FP32") -> str:
    kind = f"data_type: {data_type}" if data_type else ""
    return f'inputs {{ key: "{name}" value {{ {kind} dims: {dims} {source} }} }}'


FRAMES = given("frames", [5, 3], "zero_data: true")


@pytest.fixture
def path(make_model: MakeModel, lstm_model: LstmModel, lstm_config: str) -> Callable[..., Path]:
    """Writes the model with further lines, and files under `warmup/`."""

    def write(more: str, **files: bytes) -> Path:
        directory = make_model("lstm", lstm_config + more, lstm_model())
        for name, data in files.items():
            (directory / "warmup").mkdir(exist_ok=True)
            (directory / "warmup" / name).write_bytes(data)
        return directory

    return write


def only(path: Path) -> WarmupSample:
    [spec] = load(path)
    [one] = spec.samples
    return one


def test_no_warmup(path: Any) -> None:
    [spec] = load(path(""))
    assert (spec.samples, spec.warmup) == ((), {})


def test_what_a_sample_says(path: Any) -> None:
    one = only(path(sample(FRAMES, batch_size=8, more="count: 3")))
    assert (one.name, one.batch_size, one.count) == ("first", 8, 3)
    assert list(one.row) == ["frames"]
    assert one.row["frames"].dtype == np.float32
    np.testing.assert_array_equal(one.row["frames"], np.zeros((5, 3)))


def test_several_samples_in_their_order(path: Any) -> None:
    """Only the first decides the sizes of the server's own first runs; one of batch_size 0 is not
    run, as in Triton.
    """
    longer = given("frames", [9, 3], "random_data: true")
    text = sample(FRAMES, batch_size=0) + sample(longer, name="second") + sample(name="third")
    [spec] = load(path(text))
    assert [(one.name, one.batch_size, one.count) for one in spec.samples] == [
        ("second", 1, 1),
        ("third", 1, 1),
    ]
    assert spec.warmup == {"frames": (1, 5, 3)}
    assert spec.samples[1].row == {}


def test_random_numbers_are_the_same_at_every_start(path: Any) -> None:
    model = path(sample(given("frames", [5, 3], "random_data: true")))
    first, second = only(model).row["frames"], only(model).row["frames"]
    np.testing.assert_array_equal(first, second)
    assert first.min() >= 0
    assert first.max() < 1
    assert len(np.unique(first)) == 15


def test_random_whole_numbers_and_flags(
    make_model: MakeModel, mixed_model: Any, mixed_config: str
) -> None:
    text = sample(
        given("place", [], "random_data: true", "TYPE_INT64"),
        given("odd", [1], "random_data: true", "TYPE_BOOL"),
    )
    row = only(make_model("mixed", mixed_config + text, mixed_model)).row
    assert row["place"].dtype == np.int64
    assert row["place"].shape == ()
    assert int(row["place"]) in (0, 1)
    assert (row["odd"].dtype, row["odd"].shape) == (np.bool_, (1,))


def test_a_file_of_raw_elements(path: Any) -> None:
    """What it has beyond one row is left out."""
    values = np.arange(9, dtype="<f4")
    text = sample(given("frames", [2, 3], 'input_data_file: "raw"'))
    row = only(path(text, raw=values.tobytes())).row["frames"]
    np.testing.assert_array_equal(row, [[0, 1, 2], [3, 4, 5]])


def test_states_may_begin_otherwise(path: Any) -> None:
    values = np.arange(4, dtype="<f4")
    text = sample(FRAMES, given("c", [4], 'input_data_file: "c0"'))
    np.testing.assert_array_equal(only(path(text, c0=values.tobytes())).row["c"], values)


def test_an_entry_without_types_and_data_gives_sizes(path: Any) -> None:
    text = sample(given("frames", [7, 3], "", ""), batch_size=2)
    one = only(path(text))
    np.testing.assert_array_equal(one.row["frames"], np.zeros((7, 3)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            sample(FRAMES, batch_size=9),
            "model_warmup 'first': batch_size: 9; expected 1 to 8, the max_batch_size",
        ),
        (
            sample(given("frame", [5, 3], "zero_data: true")),
            "model_warmup 'first': no input 'frame'; there is: frames, h, c",
        ),
        (
            sample(given("frames", [5, 3], "zero_data: true", "TYPE_FP64")),
            "model_warmup 'first': input 'frames': data_type TYPE_FP64; the model has TYPE_FP32",
        ),
        (
            sample(given("frames", [5, 4], "zero_data: true")),
            "model_warmup 'first': input 'frames': dims [5, 4]; expected sizes for [-1, 3]",
        ),
        (
            sample(given("frames", [-1, 3], "zero_data: true")),
            "model_warmup 'first': input 'frames': dims [-1, 3]; expected sizes for [-1, 3]",
        ),
        (
            sample(given("frames", [1, 5, 3], "zero_data: true")),
            "model_warmup 'first': input 'frames': dims [1, 5, 3]; expected sizes for [-1, 3]",
        ),
        (
            sample(given("h", [5], "zero_data: true")),
            "model_warmup 'first': input 'h': dims [5]; expected sizes for [4]",
        ),
        (
            sample(FRAMES) + sample(given("frames", [3], "zero_data: true"), name=""),
            "model_warmup: input 'frames': dims [3]; expected sizes for [-1, 3]",
        ),
        (
            sample(given("frames", [5, 3], 'input_data_file: "nowhere"')),
            "warmup/nowhere: No such file or directory",
        ),
        (
            sample(given("frames", [5, 3], 'input_data_file: "../1/model.onnx"')),
            "input_data_file '../1/model.onnx'; expected a file in warmup/",
        ),
        (
            sample(given("frames", [5, 3], 'input_data_file: "raw"')),
            "warmup/raw: 8 bytes; expected 60 for FP32 [5, 3]",
        ),
    ],
)
def test_a_bad_sample_says_what_is_wrong(path: Any, text: str, said: str) -> None:
    model = path(text, raw=bytes(8))
    with pytest.raises(StartupError) as caught:
        load(model)
    assert str(caught.value).startswith(f"{model}/config.pbtxt: model_warmup")
    assert said in str(caught.value)


def test_a_model_without_a_batch_axis_has_one_row(make_model: MakeModel, affine_model: Any) -> None:
    """Its dims count every axis."""
    x = given("x", [5, 2], "random_data: true")
    model = make_model("affine", f"max_batch_size: 0\n{sample(x)}", affine_model)
    assert only(model).row["x"].shape == (5, 2)
    two = make_model("two/affine", f"max_batch_size: 0\n{sample(x, batch_size=2)}", affine_model)
    with pytest.raises(StartupError, match=r"batch_size: 2; expected 1$"):
        load(two)
