"""What a server has to know of some sequences, and what it has to answer.

It reads requests by itself, without anything of the server's. A request that was answered goes on
here as it has to there; one that was refused changes nothing, so that whatever it has changed
there shows in a later answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fuzz.repository import VERSIONS, double, fold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzz.repository import Ints
    from server.stubs.inference import grpc_service_pb2 as pb


class Wrong(Exception):
    """The server has answered what it should not; the text says what and what was expected."""


class Key(NamedTuple):
    """A sequence: ids count within a version of a model, and 7 is not "7"."""

    model: str
    version: int
    id: int | str


@dataclass
class Sequence:
    """`state` is (rows, 2) after `count` requests; `answers` to numbered ones by their numbers."""

    state: Ints
    count: int = 0
    answers: dict[int, Ints] = field(default_factory=dict)


class Asked(NamedTuple):
    """A request, read."""

    key: Key
    x: Ints  # (rows, timesteps, 2)
    start: bool
    end: bool
    step: int
    states_of: str
    outputs: list[str]


class Reference:
    def __init__(self) -> None:
        self.sequences: dict[Key, Sequence] = {}
        self._ended: dict[Key, Sequence] = {}
        self.unclear: set[Key] = set()  # what became of them cannot be told from answers

    def accepts(self, request: pb.ModelInferRequest) -> bool:
        """Whether a request that is right in itself comes at the right time; its number, if it has
        one, is the next.
        """
        asked = read(request)
        if asked.key.model == "double":
            return True
        if asked.start:
            return not asked.states_of or self._source(asked) is not None
        known = self.sequences.get(asked.key)
        return known is not None and len(known.state) == len(asked.x)

    def next_number(self, request: pb.ModelInferRequest) -> int:
        """Which of its sequence a right request would be; 0 if there is no such sequence."""
        asked = read(request)
        if asked.key.model == "double":
            return 0
        known = self.sequences.get(asked.key)
        return 1 if asked.start else known.count + 1 if known is not None else 0

    def answered(self, request: pb.ModelInferRequest, response: pb.ModelInferResponse) -> None:
        """The server has run this request. Raises Wrong where that, or the answer, is wrong."""
        asked = read(request)
        expected = self.expected(asked)
        if expected is None or any(output.parameters for output in request.outputs):
            return  # as classes, say; that it was run shows later
        told = _told(request, asked, response)
        if expected.shape != told.shape or expected.tobytes() != told.tobytes():
            raise Wrong(
                f"sequence {asked.key}: expected {_shown(expected)}, got {_shown(told)}; "
                f"known of it: {self.sequences.get(asked.key)}"
            )

    def ended(self, key: Key) -> None:
        """The sequence is gone for sure, and so is what was unclear about it."""
        self.sequences.pop(key, None)
        self._ended.pop(key, None)
        self.unclear.discard(key)

    def expected(self, asked: Asked) -> Ints | None:
        """What to answer, and the sequence goes on; None where two answers are right. Raises Wrong
        where none is.
        """
        if asked.key.model == "double":
            return double(asked.x)
        known = self.sequences.get(asked.key)
        if asked.start:
            before = known or self._ended.get(asked.key)
            if asked.step and before is not None and 1 in before.answers:
                self.unclear.add(asked.key)  # begins anew, or is the same START once more
                return None if asked.states_of else fold(asked.x, _zeros(asked))
            return self._begin(asked)
        if asked.step and (known is None or asked.step != known.count + 1):
            return self._again(asked)
        if known is None:
            raise Wrong(f"sequence {asked.key} has no START, but its request was answered")
        if len(known.state) != len(asked.x):
            raise Wrong(f"sequence {asked.key} has another number of rows, but was answered")
        return self._go_on(asked, known)

    def _begin(self, asked: Asked) -> Ints:
        state = self._source(asked) if asked.states_of else _zeros(asked)
        if state is None:
            raise Wrong(f"sequence {asked.key} has begun with the states of {asked.states_of!r}")
        self._ended.pop(asked.key, None)
        known = self.sequences[asked.key] = Sequence(state)
        return self._go_on(asked, known)

    def _go_on(self, asked: Asked, known: Sequence) -> Ints:
        y = fold(asked.x, known.state)
        known.state = y[:, -1]
        known.count += 1
        if asked.step:
            known.answers[asked.step] = y
        if asked.end:
            self._ended[asked.key] = self.sequences.pop(asked.key)
        return y

    def _again(self, asked: Asked) -> Ints:
        """A numbered request that was answered before."""
        known = self.sequences.get(asked.key) or self._ended.get(asked.key)
        if known is None or asked.step not in known.answers:
            raise Wrong(f"{asked.key} was answered to step {asked.step}, which it never made")
        if asked.end and asked.key in self.sequences:
            self.unclear.add(asked.key)  # its END is done, or not
        return known.answers[asked.step]

    def _source(self, asked: Asked) -> Ints | None:
        """The states that the sequence begins with, if there are such and they fit."""
        for key in _named(asked.states_of):
            if key in self.sequences:
                state = self.sequences[key].state
                return state if key != asked.key and len(state) == len(asked.x) else None
        return None


def read(request: pb.ModelInferRequest) -> Asked:
    """Raises Wrong where nothing is right to do but to refuse it."""
    versions = VERSIONS.get(request.model_name)
    version = request.model_version or (str(versions[-1]) if versions else "")
    if not versions or not version.isdecimal() or int(version) not in versions:
        raise Wrong(f"there is no {request.model_name!r} version {version!r}, but it has answered")
    parameters = request.parameters
    id = parameters.get("sequence_id")
    kind = id.WhichOneof("parameter_choice") if id is not None else None
    key = Key(request.model_name, int(version), getattr(id, kind) if kind else 0)
    if key.model == "fold" and (not key.id or isinstance(key.id, bool | float)):
        raise Wrong(f"there is no sequence {key.id!r}, but it was answered")
    step = parameters.get("rnnserve_step")
    return Asked(
        key,
        _input(request),
        "sequence_start" in parameters and parameters["sequence_start"].bool_param,
        "sequence_end" in parameters and parameters["sequence_end"].bool_param,
        (step.int64_param or step.uint64_param) if step is not None else 0,
        parameters["rnnserve_states_of"].string_param if "rnnserve_states_of" in parameters else "",
        [output.name for output in request.outputs] or ["y"],
    )


def _zeros(asked: Asked) -> Ints:
    """What a sequence begins with."""
    return np.zeros((len(asked.x), 2), np.int64)


def _input(request: pb.ModelInferRequest) -> Ints:
    if [tensor.name for tensor in request.inputs] != ["x"]:
        raise Wrong(f"inputs {[tensor.name for tensor in request.inputs]} were taken for ['x']")
    (tensor,) = request.inputs
    shape = (*tensor.shape,)
    fits = len(shape) == 3 and shape[2] == 2 and min(shape) > 0
    if tensor.datatype != "INT64" or not fits:
        raise Wrong(f"a {tensor.datatype} of shape {shape} was taken for an INT64 of [-1,-1,2]")
    raw = list(request.raw_input_contents)
    if raw and tensor.HasField("contents"):
        raise Wrong("raw and typed contents were taken together")
    values = raw[0] if raw else np.array(tensor.contents.int64_contents, np.int64).tobytes()
    if len(raw) > 1 or len(values) != 8 * shape[0] * shape[1] * shape[2]:
        raise Wrong(f"{len(raw)} raw contents, {len(values)} bytes, were taken for shape {shape}")
    return np.frombuffer(values, np.int64).reshape(shape)


def _told(request: pb.ModelInferRequest, asked: Asked, response: pb.ModelInferResponse) -> Ints:
    """The output, from an answer that is complete. Raises Wrong."""
    said = (response.id, response.model_name, response.model_version)
    expected = (request.id, asked.key.model, str(asked.key.version))
    if said != expected:
        raise Wrong(f"the answer says that it is {said}, expected {expected}")
    outputs = [output.name for output in response.outputs]
    raw = list(response.raw_output_contents)
    if outputs != asked.outputs or len(raw) != len(outputs) or len(set(outputs)) != 1:
        raise Wrong(f"asked for {asked.outputs}, got {outputs} with {len(raw)} contents")
    if outputs[0] != "y" or len(set(raw)) != 1 or response.outputs[0].datatype != "INT64":
        raise Wrong(f"the output is {response.outputs[0]}")
    return np.frombuffer(raw[0], np.int64).reshape((*response.outputs[0].shape,))


def _named(states_of: str) -> Iterator[Key]:
    """The sequences that this may mean, in the order in which they are looked for."""
    model, _, text = states_of.partition("/")
    is_number = text.removeprefix("-").isdecimal() and len(text) <= 20
    for version in reversed(VERSIONS.get(model, ())):
        if is_number:
            yield Key(model, version, int(text))
        yield Key(model, version, text)


def _shown(array: Ints) -> str:
    return f"{array.shape} {array.ravel()[:8].tolist()}"
