"""What the reference finds wrong in answers: each kind of mistake, and nothing in right ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fuzz import inference
from fuzz.reference import Key, Reference, Wrong, read
from server.stubs.inference import grpc_service_pb2 as pb

X = np.array([[[1, 2], [3, 4]]])
ONE = Key("fold", 2, 1)


def request(id: Any = 1, x: Any = X, *, number: int = 0, **flags: bool) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="fold", id="a")
    made.inputs.add(name="x", datatype="INT64", shape=np.shape(x))
    made.raw_input_contents.append(np.asarray(x, np.int64).tobytes())
    inference.in_sequence(made, id, **flags)
    if number:
        made.parameters["rnnserve_step"].int64_param = number
    return made


def answer(y: Any, **fields: str) -> pb.ModelInferResponse:
    said = {"model_name": "fold", "model_version": "2", "id": "a"} | fields
    made = pb.ModelInferResponse(**said)
    made.outputs.add(name="y", datatype="INT64", shape=np.shape(y))
    made.raw_output_contents.append(np.asarray(y, np.int64).tobytes())
    return made


@pytest.fixture
def begun() -> Reference:
    """One sequence, at [6, 10]."""
    reference = Reference()
    reference.answered(request(start=True), answer([[[1, 2], [6, 10]]]))
    return reference


def test_a_sequence_from_start_to_end(begun: Reference) -> None:
    assert begun.accepts(request())
    begun.answered(request(x=[[[0, 0]]]), answer([[[18, 30]]]))
    begun.answered(request(x=[[[0, -90]]], end=True), answer([[[54, 0]]]))
    assert not begun.sequences
    assert not begun.accepts(request())


def test_ids_count_by_kind_and_version(begun: Reference) -> None:
    assert not begun.accepts(request("1"))
    other = request()
    other.model_version = "1"
    assert not begun.accepts(other)
    other.model_version = "2"
    assert begun.accepts(other)


def test_what_is_refused_changes_nothing(begun: Reference) -> None:
    """So that what it has changed at the server is found in the next answer."""
    with pytest.raises(Wrong, match="expected"):
        begun.answered(request(x=[[[0, 0]]]), answer([[[19, 30]]]))


def test_typed_contents(begun: Reference) -> None:
    typed = request(x=[[[0, 0]]])
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.int64_contents.extend([0, 0])
    begun.answered(typed, answer([[[18, 30]]]))


def test_states_of_another(begun: Reference) -> None:
    second = request("b", [[[0, 0]]], start=True)
    second.parameters["rnnserve_states_of"].string_param = "fold/1"
    assert begun.accepts(second)
    begun.answered(second, answer([[[18, 30]]]))
    second.parameters["rnnserve_states_of"].string_param = "fold/2"
    assert not begun.accepts(second)


def test_numbered_once_more(begun: Reference) -> None:
    numbered = request(x=[[[0, 0]]], number=2)
    for _ in range(3):
        begun.answered(numbered, answer([[[18, 30]]]))
    with pytest.raises(Wrong):
        begun.answered(numbered, answer([[[54, 90]]]))
    with pytest.raises(Wrong, match="never made"):
        begun.answered(request(number=9), answer([[[54, 90]]]))


def test_numbered_end_once_more(begun: Reference) -> None:
    last = request(x=[[[0, 0]]], number=2, end=True)
    begun.answered(last, answer([[[18, 30]]]))
    begun.answered(last, answer([[[18, 30]]]))
    assert not begun.sequences
    assert not begun.unclear


def test_numbered_start_once_more() -> None:
    reference, first = Reference(), request(start=True, number=1)
    reference.answered(first, answer([[[1, 2], [6, 10]]]))
    assert not reference.unclear
    reference.answered(first, answer([[[1, 2], [6, 10]]]))
    assert reference.unclear == {ONE}  # begun anew or not: ended, to be sure
    reference.ended(ONE)
    assert not reference.unclear | reference.sequences.keys()


@pytest.mark.parametrize(
    ("asked", "told", "said"),
    [
        (request(9), answer(X), "no START"),
        (request(x=[[[0, 0]]] * 2), answer(X), "rows"),
        (request(0), answer(X), "no sequence 0"),
        (request(""), answer(X), "no sequence ''"),
        (request(), answer([[[1, 2], [6, 10]]], id="b"), "says that it is"),
        (request(), answer([[[1, 2], [6, 10]]], model_version="1"), "says that it is"),
    ],
)
def test_what_should_not_have_been_answered_so(
    begun: Reference, asked: Any, told: Any, said: str
) -> None:
    with pytest.raises(Wrong, match=said):
        begun.answered(asked, told)


def changed(**fields: Any) -> pb.ModelInferRequest:
    made = request(start=True)
    for name, value in fields.items():
        if name == "shape":
            made.inputs[0].ClearField("shape")
            made.inputs[0].shape.extend(value)
        elif name in ("name", "datatype"):
            setattr(made.inputs[0], name, value)
        elif name == "raw":
            del made.raw_input_contents[:]
            made.raw_input_contents.extend(value)
        else:
            setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    "asked",
    [
        changed(name="h"),
        changed(datatype="FP64"),
        changed(shape=[1, 2]),
        changed(shape=[1, 2, 3]),
        changed(shape=[-1, -2, 2]),
        changed(shape=[1, 3, 2]),
        changed(raw=[]),
        changed(raw=[bytes(31)]),
        changed(raw=[bytes(32), bytes(32)]),
        changed(model_name="nobody"),
        changed(model_version="3"),
        changed(model_version="-1"),
        pb.ModelInferRequest(),
    ],
)
def test_what_nobody_can_answer(asked: Any) -> None:
    with pytest.raises(Wrong):
        read(asked)


@pytest.mark.parametrize(
    "told",
    [
        pb.ModelInferResponse(id="a", model_name="fold", model_version="2"),
        answer([[[1, 2, 6, 10]]]),
        answer([[[1, 2]], [[6, 10]]]),
    ],
)
def test_outputs_that_are_not_those_asked_for(told: Any) -> None:
    with pytest.raises(Wrong):
        Reference().answered(request(start=True), told)
