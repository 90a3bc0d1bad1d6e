"""The proof fails where it must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

import models
from export.assemble import assemble
from export.config import Serving
from export.describe import describe
from export.proof import Proof, Row, compare
from export.signature import signature_of
from export.verify import SCHEDULES, Case, play, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx


def tamper(
    graph: onnx.ModelProto, name: str, change: Callable[[np.ndarray[Any, Any]], Any]
) -> onnx.ModelProto:
    """The same graph with one initialiser changed; still valid ONNX."""
    (tensor,) = [t for t in graph.graph.initializer if t.name == name]
    value = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return graph


def swap_first_two_gates(w: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Exchange the blocks of gates 0 and 1 of an ONNX LSTM's W, (1, 4u, D)."""
    i, o, f, c = np.split(w, 4, axis=1)
    return np.concatenate([o, i, f, c], axis=1)


def proof_of(model: models.Sequential, graph: onnx.ModelProto) -> Proof:
    return verify(model, graph.SerializeToString(), signature_of(describe(model)))


def exported(model: models.Sequential) -> onnx.ModelProto:
    return assemble(describe(model), Serving("tested"))


def test_swapped_gates_are_caught(build: Any) -> None:
    layer = models.LSTM(3, recurrent_activation="sigmoid", return_sequences=True)
    model = build(layer)
    proof = proof_of(model, tamper(exported(model), "lstm/W", swap_first_two_gates))
    assert not proof.passed
    assert {row.tensor for row in proof.failures} == {"output", "lstm_h", "lstm_c"}
    assert {row.comparison for row in proof.failures} == {f"{s}, random" for s in SCHEDULES}


def test_a_small_error_in_one_weight_is_caught(small: models.Sequential) -> None:
    def nudge(kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        kernel[0, 0] += 1e-3
        return kernel

    assert not proof_of(small, tamper(exported(small), "lstm/recurrent_kernel", nudge)).passed


def test_a_state_that_is_not_read_is_caught_by_steps(build: Any) -> None:
    """With c always starting from zero, whole sequences that start at zero are still right."""
    layer = models.LSTM(3, recurrent_activation="sigmoid", return_sequences=True)
    model = build(layer)
    graph = exported(model)
    (node,) = [n for n in graph.graph.node if n.op_type == "LSTM"]
    node.input[6] = ""
    real = [np.random.default_rng(0).standard_normal((6, 5), np.float32)]
    signature = signature_of(describe(model))
    proof = verify(model, graph.SerializeToString(), signature, real)
    verdicts = {row.comparison: row.passed for row in proof.rows if row.tensor == "output"}
    assert verdicts["whole, real data"]
    assert not verdicts["steps, real data"]
    assert not verdicts["strangers, real data"]


def test_rows_mixed_up_in_a_batch_are_caught_only_among_strangers(small: models.Sequential) -> None:
    """A graph that gives every row the mean state of its batch is right for a lone session."""
    graph = exported(small)
    (scan,) = [n for n in graph.graph.node if n.op_type == "Scan"]
    scan.input[0] = "mixed"
    mean = graph.graph.node.add(op_type="ReduceMean", name="mean", output=["mean"])
    mean.input.extend(["lstm_h", "first_axis"])
    spread = graph.graph.node.add(op_type="Expand", name="mixed", output=["mixed"])
    spread.input.extend(["mean", "state_shape"])
    shape = graph.graph.node.add(op_type="Shape", name="shape", output=["state_shape"])
    shape.input.append("lstm_h")
    graph.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first_axis"))
    nodes = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([mean, shape, spread, *nodes[:-3]])
    failed = {row.comparison for row in proof_of(small, graph).failures}
    assert failed == {"strangers, random", "chunks, random"}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_run_every_timestep_once(name: str) -> None:
    lengths = [1, 4, 9, 2]
    done = [0] * len(lengths)
    for members, length in SCHEDULES[name](lengths, np.random.default_rng(3)):
        assert length >= 1
        assert len(set(members)) == len(members)
        for member in members:
            done[member] += length
    assert done == lengths


def test_strangers_differ_in_size_and_place() -> None:
    turns = list(SCHEDULES["strangers"]([20] * 6, np.random.default_rng(0)))
    assert len({len(members) for members, _ in turns}) > 3
    assert len({members.index(0) for members, _ in turns if 0 in members}) > 2


def test_play_carries_each_session_on_its_own(small: models.Sequential) -> None:
    session = onnxruntime.InferenceSession(exported(small).SerializeToString())
    signature = signature_of(describe(small))
    rng = np.random.default_rng(5)
    zeros = (np.zeros(4, np.float32),) * 2
    cases = [Case(rng.standard_normal((3, 5), np.float32), zeros) for _ in range(2)]
    together = play(session, signature, cases, [([1, 0], 1), ([0], 2), ([1], 2)])
    alone = play(session, signature, cases, [([0], 3), ([1], 3)])
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.output, b.output, atol=1e-6)
        np.testing.assert_allclose(a.states, b.states, atol=1e-6)


def test_relative_error_is_in_units_of_the_largest_magnitude() -> None:
    want = [np.array([1e-9, 4.0], np.float32), np.array([-8.0], np.float32)]
    got = [np.array([2e-9, 4.0], np.float32), np.array([-8.5], np.float32)]
    row = compare("whole", "y", want, got)
    assert (row.max_abs, row.max_rel) == (0.5, 0.0625)
    assert not row.passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_fails(bad: float) -> None:
    array = [np.array([1.0, bad], np.float32)]
    assert not compare("whole", "y", [np.ones(2, np.float32)], array).passed
    assert not compare("whole", "y", array, array).passed


def test_a_shape_that_differs_is_an_error() -> None:
    with pytest.raises(ValueError, match="torch gives shape"):
        compare("whole", "y", [np.zeros((2, 3))], [np.zeros((3,))])


def test_all_zero_agrees_only_with_zero() -> None:
    zero, one = [np.zeros(2, np.float32)], [np.ones(2, np.float32)]
    assert compare("whole", "y", zero, zero).passed
    assert not compare("whole", "y", zero, one).passed


def test_no_rows_prove_nothing() -> None:
    assert not Proof(()).passed
    assert Proof((Row("whole", "y", 0.0, 0.0),)).passed
