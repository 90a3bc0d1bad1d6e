"""The proof fails where it must."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

import models
from export.cases import Case
from export.errors import ExportError
from export.playing import play
from export.program import Program, program
from export.proof import Proof, Row, compare
from export.schedules import schedules_of
from export.verify import verify

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


def proof_of(made: Program, graph: onnx.ModelProto | None = None, real: Any = ()) -> Proof:
    graph = made.model if graph is None else graph
    return verify(made.plan, graph.SerializeToString(), real=real)


COMPARISONS = ("whole", "steps", "strangers", "chunks")


def test_swapped_gates_are_caught(build: Any) -> None:
    layer = models.LSTM(3, recurrent_activation="sigmoid", return_sequences=True)
    made = program(build(layer))
    proof = proof_of(made, tamper(made.model, "lstm/W", swap_first_two_gates))
    assert not proof.passed
    assert {row.tensor for row in proof.failures} == {"output", "lstm_h", "lstm_c"}
    assert {row.comparison for row in proof.failures} == {f"{s}, random" for s in COMPARISONS}


def test_a_small_error_in_one_weight_is_caught(small: models.Sequential) -> None:
    def nudge(kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        kernel[0, 0] += 1e-3
        return kernel

    made = program(small)
    assert not proof_of(made, tamper(made.model, "lstm/recurrent_kernel", nudge)).passed


def test_a_state_that_is_not_read_is_caught_by_steps(build: Any) -> None:
    """With c always starting from zero, whole sequences that start at zero are still right."""
    layer = models.LSTM(3, recurrent_activation="sigmoid", return_sequences=True)
    made = program(build(layer))
    graph = made.model
    (node,) = [n for n in graph.graph.node if n.op_type == "LSTM"]
    node.input[6] = ""
    real = [np.random.default_rng(0).standard_normal((6, 5), np.float32)]
    proof = proof_of(made, graph, real)
    verdicts = {row.comparison: row.passed for row in proof.rows if row.tensor == "output"}
    assert verdicts["whole, real data"]
    assert not verdicts["steps, real data"]
    assert not verdicts["strangers, real data"]


def test_rows_mixed_up_in_a_batch_are_caught_only_among_strangers(small: models.Sequential) -> None:
    """A graph that gives every row the mean state of its batch is right for a lone session."""
    made = program(small)
    graph = made.model
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
    failed = {row.comparison for row in proof_of(made, graph).failures}
    assert failed == {"strangers, random", "chunks, random"}


def cases_of(*lengths: int) -> list[Case]:
    """Sessions of one request each, of so many timesteps of nothing."""
    return [Case(({},), (), (length,)) for length in lengths]


@pytest.fixture
def schedules(small: models.Sequential) -> dict[str, Any]:
    return schedules_of(program(small).signature)


@pytest.mark.parametrize("name", COMPARISONS)
def test_schedules_run_every_timestep_once(name: str, schedules: dict[str, Any]) -> None:
    lengths = [1, 4, 9, 2]
    done = [0] * len(lengths)
    for members, length in schedules[name](cases_of(*lengths), np.random.default_rng(3)):
        assert length is None or length >= 1
        assert len(set(members)) == len(members)
        for member in members:
            done[member] += lengths[member] if length is None else length
    assert done == lengths


def test_strangers_differ_in_size_and_place(schedules: dict[str, Any]) -> None:
    turns = list(schedules["strangers"](cases_of(*[20] * 6), np.random.default_rng(0)))
    assert len({len(members) for members, _ in turns}) > 3
    assert len({members.index(0) for members, _ in turns if 0 in members}) > 2


def test_whole_requests_share_a_batch_with_their_like(build: Any) -> None:
    made = program(build(models.GRU(3, go_backwards=True)))
    schedules = schedules_of(made.signature)
    assert schedules.keys() == {"whole", "together"}
    cases = [Case(({}, {}), (), (n, n)) for n in (2, 5, 2, 5, 5)]
    done = [0] * len(cases)
    sizes = set()
    for members, length in schedules["together"](cases, np.random.default_rng(0)):
        assert length is None
        assert len({cases[i].lengths[done[i]] for i in members}) == 1
        sizes.add(len(members))
        for i in members:
            done[i] += 1
    assert done == [2] * len(cases)
    assert len(sizes) > 1


def test_play_carries_each_session_on_its_own(small: models.Sequential) -> None:
    made = program(small)
    session = onnxruntime.InferenceSession(made.model.SerializeToString())
    rng = np.random.default_rng(5)
    zeros = (np.zeros(4, np.float32),) * 2
    cases = [
        Case(({"frames": rng.standard_normal((3, 5), np.float32)},), zeros, (3,)) for _ in range(2)
    ]
    together = play(session, made.signature, cases, [([1, 0], 1), ([0], 2), ([1], 2)])
    alone = play(session, made.signature, cases, [([0], None), ([1], None)])
    for a, b in zip(together, alone, strict=True):
        (mine,), (theirs,) = a.outputs, b.outputs
        np.testing.assert_allclose(mine["probabilities"], theirs["probabilities"], atol=1e-6)
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


def test_a_shape_that_differs_fails() -> None:
    assert not compare("whole", "y", [np.zeros((2, 3))], [np.zeros((3,))]).passed


def test_all_zero_agrees_only_with_zero() -> None:
    zero, one = [np.zeros(2, np.float32)], [np.ones(2, np.float32)]
    assert compare("whole", "y", zero, zero).passed
    assert not compare("whole", "y", zero, one).passed


def test_no_rows_prove_nothing() -> None:
    assert not Proof(()).passed
    assert Proof((Row("whole", "y", 0.0, 0.0),)).passed


def test_a_chaotic_model_is_measured_by_torchs_own_rounding(build: Any) -> None:
    """Large weights: two correct computations in float32 part from each other."""
    model = build(models.SimpleRNN(24, return_sequences=True))
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(model.layers[0].cell.recurrent_kernel, std=0.9, generator=generator)
    made = program(model)
    proof = proof_of(made)
    assert proof.passed
    assert max(row.limit for row in proof.rows) > 1e-5
    shifted = tamper(made.model, "simple_rnn/R", lambda r: np.roll(r, 1, axis=1))
    assert not proof_of(made, shifted).passed


def test_a_mask_value_that_is_wrong_is_caught(build: Any) -> None:
    made = program(build(models.Masking(0.5), models.LSTM(3, return_sequences=True)))
    assert proof_of(made).passed
    assert not proof_of(made, tamper(made.model, "masking/mask_value", lambda v: v + 7)).passed


def test_symbols_are_drawn_from_the_whole_table() -> None:
    model = models.Sequential([models.Embedding(50, 4), models.LSTM(3, return_sequences=True)])
    model.build((None, None))
    made = program(model)

    def zero_the_rest(table: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        table[2:] = 0
        return table

    assert not proof_of(made, tamper(made.model, "embedding/embeddings", zero_the_rest)).passed


def test_inputs_have_the_scale_that_a_normalization_expects(build: Any) -> None:
    """Far from it every gate is saturated, and nothing of the weights matters."""
    normalization = models.Normalization()
    model = build(normalization, models.LSTM(4, return_sequences=True))
    with torch.no_grad():
        normalization.mean.fill_(2000)
        normalization.std.fill_(20)
    made = program(model)
    assert proof_of(made).passed
    assert not proof_of(made, tamper(made.model, "lstm/recurrent_kernel", lambda u: -u)).passed


def test_real_data_of_another_shape_is_an_error(small: models.Sequential) -> None:
    with pytest.raises(ExportError, match="real data of shape"):
        proof_of(program(small), real=[np.zeros((4, 7), np.float32)])


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_what_rounding_cannot_do_fails(small: models.Sequential, dtype: str) -> None:
    chosen: Any = {"quantize": True} if dtype == "int8" else {"dtype": dtype}
    made = program(small, **chosen)
    (name,) = [t.name for t in made.model.graph.initializer if t.name.startswith("lstm/bias")]
    wrong = tamper(made.model, name, lambda bias: bias * 0 - 3)
    for graph, passes in ((program(small, **chosen).model, True), (wrong, False)):
        proof = verify(
            made.plan, graph.SerializeToString(), made.signature, limit=made.precision.limit
        )
        assert proof.passed == passes
