"""`reshape` against `dims` and the graph: what goes together, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from onnx import TensorProto, helper

from server.errors import StartupError
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from tests.server.conftest import MakeModel

FLOAT = TensorProto.FLOAT


def model_of(shape: Sequence[int | str], output: Sequence[int | str] = ("b",)) -> onnx.ModelProto:
    """`x` of the shape, and `y`, which does not depend on it."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["s"], ["y"])],
        "g",
        [helper.make_tensor_value_info(n, FLOAT, s) for n, s in (("x", shape), ("s", output))],
        [helper.make_tensor_value_info("y", FLOAT, output)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def config(size: int, dims: str, reshape: str | None) -> str:
    more = "" if reshape is None else f"reshape {{ shape: [ {reshape} ] }}"
    return (
        f"max_batch_size: {size}\n"
        f'input {{ name: "x" data_type: TYPE_FP32 dims: [ {dims} ] {more} }}\n'
        f'input {{ name: "s" data_type: TYPE_FP32 {"dims: [ 3 ]" if not size else ""} }}\n'
    )


@pytest.mark.parametrize(
    ("size", "graph", "dims", "reshape", "outer", "inner"),
    [
        (8, ["b"], "1", "", (-1, 1), (-1,)),
        (8, ["b"], "1, 1", "", (-1, 1, 1), (-1,)),
        (8, ["b", 6], "2, 3", "6", (-1, 2, 3), (-1, 6)),
        (8, ["b", 2, 3], "6", "2, 3", (-1, 6), (-1, 2, 3)),
        (8, ["b", "t", 2, 2], "-1, 4", "-1, 2, 2", (-1, -1, 4), (-1, -1, 2, 2)),
        (
            8,
            ["b", 8, "t", 1, 6],
            "2, 4, -1, 6",
            "8, -1, 1, 6",
            (-1, 2, 4, -1, 6),
            (-1, 8, -1, 1, 6),
        ),
        (8, ["b", "p", 1, "q"], "-1, -1", "-1, 1, -1", (-1, -1, -1), (-1, -1, 1, -1)),
        # sizes that only the graph has
        (8, ["b", 5, 1, "q"], "-1, -1", "-1, 1, -1", (-1, 5, -1), (-1, 5, 1, -1)),
        (8, ["b", "p", 1, 7], "-1, -1", "-1, 1, -1", (-1, -1, 7), (-1, -1, 1, 7)),
        (1, [1, 6], "2, 3", "6", (-1, 2, 3), (-1, 6)),
        (0, [6], "2, 3", "6", (2, 3), (6,)),
        (0, ["n", 1], "-1", "-1, 1", (-1,), (-1, 1)),
        (0, [], "1", "", (1,), ()),
        (0, [], "1", None, (1,), ()),  # a number: there is no other way to say so
        (0, [], "1, 1", None, (1, 1), ()),
    ],
)
def test_a_reshape(
    make_model: MakeModel,
    size: int,
    graph: list[int | str],
    dims: str,
    reshape: str | None,
    outer: tuple[int, ...],
    inner: tuple[int, ...],
) -> None:
    second = ["b"] if size > 1 else [1] if size else [3]
    [spec] = load(make_model("m", config(size, dims, reshape), model_of(graph, second)))
    x = spec.inputs[0]
    assert x.shape == outer
    assert x.graph_shape == inner
    listed = spec.config.input[0]
    assert tuple(listed.dims) == (outer[1:] if size else outer)
    if reshape is not None:
        assert tuple(listed.reshape.shape) == (inner[1:] if size else inner)
    assert spec.inputs[1].graph_shape is None


@pytest.mark.parametrize(
    ("size", "graph", "dims", "reshape", "answer"),
    [
        (8, ["b", 6], "5", "6", "dims [5] with reshape [6]: 5 against 6 elements; expected the s"),
        (8, ["b"], "2", "", "dims [2] with reshape []: 2 against 1 elements; expected the same"),
        (8, ["b", 6], "", "6", "dims [] with reshape [6]: 1 against 6 elements; expected the sam"),
        (
            8,
            ["b", 8, "t", 6],
            "2, 4, -1, 6",
            "8, -1, 3",
            "reshape [8, -1, 3]; the model has [-1, 8, -1, 6], of which axis 0 is the batch",
        ),
        (
            8,
            ["b", 8, "t", 6],
            "2, 4, -1, 3",
            "8, -1, 6",
            "dims [2, 4, -1, 3] with reshape [8, -1, 6]: 8, 3 against 8, 6 elements around each -1",
        ),
        (
            8,
            ["b", "p", "q"],
            "-1",
            "-1, -1",
            "dims [-1] with reshape [-1, -1]: 1, 1 against 1, 1, 1 elements around each -1; expec",
        ),
        (8, ["b", 6], "0, 6", "6", "dims [0, 6]; expected sizes of 1 or more, or -1"),
        (8, ["b", 6], "6", "6, -2", "reshape [6, -2]; expected sizes of 1 or more, or -1 for any"),
        (8, ["b", 7], "2, 3", "6", "reshape [6]; the model has [-1, 7], of which axis 0 is the ba"),
        (
            8,
            [6],
            "2, 3",
            "6",
            "reshape [6]; the model has [6], of which axis 0 is the batch; dims are without it",
        ),
        (0, [2, 6], "2, 3", "6", "reshape [6]; the model has [2, 6]"),
        (0, [], "2", None, "dims [2]; the model has []"),
        (0, [], "2", "", "dims [2] with reshape []: 2 against 1 elements; expected the same"),
    ],
)
def test_what_does_not_go_together(
    make_model: MakeModel,
    size: int,
    graph: list[int | str],
    dims: str,
    reshape: str | None,
    answer: str,
) -> None:
    path = make_model("m", config(size, dims, reshape), model_of(graph, ["b"] if size else [3]))
    with pytest.raises(StartupError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path / 'config.pbtxt'}: input 'x': {answer}")


def test_time_is_counted_as_requests_have_it(make_model: MakeModel) -> None:
    text = config(8, "-1, 4", "-1, 2, 2")
    key = 'parameters { key: "rnnserve.time_axis.x" value { string_value: "%s" } }'
    model = model_of(["b", "t", 2, 2])
    assert load(make_model("good/m", text + key % 1, model))[0].inputs[0].time_axis == 1
    with pytest.raises(StartupError, match=r"3; expected an axis from 1 to 2 of the shape \[-1, -"):
        load(make_model("bad/m", text + key % 3, model))
