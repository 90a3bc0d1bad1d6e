"""The graph builder."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from export.graph import GraphBuilder, to_model


def test_a_constant_may_come_again_with_the_same_value() -> None:
    graph = GraphBuilder("g")
    value = np.array([1.0, np.nan], np.float32)
    assert graph.constant("k", value) == graph.constant("k", value.copy()) == "k"
    assert [tensor.name for tensor in graph.build().initializer] == ["k"]


@pytest.mark.parametrize(
    "other", [np.zeros(2, np.float32), np.zeros(1, np.int32), np.zeros((1, 1), np.float32)]
)
def test_a_name_stands_for_one_value(other: np.ndarray[Any, Any]) -> None:
    graph = GraphBuilder("g")
    graph.constant("k", np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="two different initialisers are called 'k'"):
        graph.constant("k", other)


def test_nodes_are_called_after_their_first_output() -> None:
    graph = GraphBuilder("g")
    assert graph.node("Relu", ["x"], "layer/relu") == "layer/relu"
    graph.nodes("LSTM", ["x", "w", "r"], ["", "h", "c"], hidden_size=1)
    assert [node.name for node in graph.build().node] == ["layer/relu", "h"]
    assert repr(graph) == "GraphBuilder('g', nodes=['Relu', 'LSTM'])"


def test_an_invalid_graph_is_refused() -> None:
    graph = GraphBuilder("g")
    graph.input("x", ("batch", 2))
    graph.node("Relu", ["nobody"], "y")
    graph.output("y", ("batch", 2))
    with pytest.raises(onnx.checker.ValidationError):
        to_model(graph, producer=("p", "1"))


def test_a_body_leaves_its_constants_outside() -> None:
    graph = GraphBuilder("g")
    body = GraphBuilder("body", outer=graph)
    assert body.ints(1, -1) == "ints/1_-1"
    assert not body.build().initializer
    assert [tensor.name for tensor in graph.build().initializer] == ["ints/1_-1"]


def test_absorbing_renames_what_is_inside_of_nodes_too() -> None:
    inner = GraphBuilder("inner")
    inner.input("t", None)
    inner.output(inner.node("Add", ["t", "outside"], "sum"), None)
    other = GraphBuilder("other")
    other.constant("w", np.zeros(2, np.float32))
    other.nodes("Scan", ["w", "x"], ["y"], body=inner.build(), num_scan_inputs=1)

    graph = GraphBuilder("g")
    graph.absorb(other.build(), "p/", {"x": "mine", "outside": "theirs"})

    (node,) = graph.build().node
    assert (list(node.input), list(node.output)) == (["p/w", "mine"], ["p/y"])
    (body,) = [attribute.g for attribute in node.attribute if attribute.name == "body"]
    assert list(body.node[0].input) == ["p/t", "theirs"]
    assert (body.input[0].name, body.output[0].name) == ("p/t", "p/sum")


def test_producer() -> None:
    graph = GraphBuilder("g")
    graph.output(graph.node("Relu", [graph.input("x", ("batch", 2))], "y"), ("batch", 2))
    model = to_model(graph, producer=("p", "1"))
    assert (model.producer_name, model.producer_version) == ("p", "1")
