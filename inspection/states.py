"""The guess: which output of a model continues which of its inputs.

Every input is compared with every output of the same element type and a shape that may be equal.
Evidence adds up: names (names.py), the way data takes (flow.py), shapes, order. A pair counts from
`ENOUGH` points on; of the pairs that count, the best come first and each tensor is used once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inspection import names
from inspection.flow import Reach

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from inspection.flow import Flow
    from inspection.reading import Dim, Model, Value

ENOUGH = 4.0
_SURE, _LIKELY = 7.0, 5.0
_TWIN, _TWIN_BEHIND = 3.0, 0.01  # never as sure as the state that it resembles
_REACH = {
    Reach.SLOT: (5.0, "feeds a state of an op whose last value the output is"),
    Reach.MOVES: (3.0, "its elements move on to the output, as in a buffer that is shifted"),
    Reach.CARRIES: (3.0, "is carried to the output through sums and products"),
    Reach.DEPENDS: (0.5, "the output depends on it"),
    Reach.NOT: (-2.0, "yet the output does not depend on it"),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """An input and the output that is its next value; `reasons` are in words, the best first."""

    input: str
    output: str
    points: float
    proper: bool  # by a state's name, by words like next, or by an op's own state
    reasons: tuple[str, ...]

    @property
    def confidence(self) -> str:
        if self.points >= _SURE:
            return "sure"
        return "likely" if self.points >= _LIKELY else "possible"


def given(pairs: Iterable[tuple[str, str]]) -> tuple[Pair, ...]:
    """Pairs that somebody named; no guess."""
    why = ("named on the command line",)
    return tuple(Pair(i, o, float("inf"), True, why) for i, o in pairs)


def guess(model: Model, flow: Flow) -> tuple[Pair, ...]:
    """The likely pairs, in the order of the model's inputs."""
    candidates = sorted(_candidates(model, flow), key=lambda pair: -pair.points)
    chosen = _choose(pair for pair in candidates if pair.points >= ENOUGH)
    while twins := _choose(_twins(model, candidates, chosen)):
        chosen |= twins
    kept = _leave_some_data(model, chosen)
    return tuple(kept[value.name] for value in model.inputs if value.name in kept)


def unpaired(model: Model, flow: Flow, pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Inputs that look like states, of which no output is the next value."""
    paired = {pair.input for pair in pairs}
    return tuple(
        value.name
        for value in model.inputs
        if value.name not in paired
        and value.rank
        and (flow.feeds_a_state(value.name) or names.sounds_like_state(value.name))
    )


def _candidates(model: Model, flow: Flow) -> Iterator[Pair]:
    """Every input with every output that it may be equal to, weighed."""
    fitting = [(i, o) for i in model.inputs for o in model.outputs if may_be_equal(i, o)]
    befores, afters = Counter(i.name for i, _ in fitting), Counter(o.name for _, o in fitting)
    reached_by = {value.name: flow.reached_by(value.name) for value in model.outputs}
    for before, after in fitting:
        alone = befores[before.name] == afters[after.name] == 1
        reach = flow.reach(before.name, after.name)
        only = reached_by[after.name] == {before.name}
        if only and reach in (Reach.DEPENDS, Reach.MOVES):
            continue  # handed through: what nothing is added to is what it was, a speaker's voice
        yield _weigh(model, before, after, reach, alone)


def sharpened(model: Model, pairs: Iterable[Pair]) -> Model:
    """The model, each state's axes of any size narrowed to what its next value has."""
    dims = {value.name: value.dims or () for value in model.outputs}
    after = {pair.input: dims[pair.output] for pair in pairs}
    return replace(model, inputs=tuple(_narrowed(v, after.get(v.name)) for v in model.inputs))


def _narrowed(value: Value, after: tuple[Dim, ...] | None) -> Value:
    if not after or value.dims is None:
        return value
    both = zip(value.dims, after, strict=True)
    return replace(value, dims=tuple(o if isinstance(o, int) else i for i, o in both))


def may_be_equal(before: Value, after: Value) -> bool:
    """Whether one can be fed where the other came out: element type, rank, known sizes."""
    if before.elem_type != after.elem_type or before.dtype is None:
        return False
    if before.dims is None or after.dims is None:
        return True
    return len(before.dims) == len(after.dims) and all(
        one == other
        for one, other in zip(before.dims, after.dims, strict=True)
        if isinstance(one, int) and isinstance(other, int)
    )


def _weigh(model: Model, before: Value, after: Value, reach: Reach, alone: bool) -> Pair:
    like = names.likeness(before.name, after.name)
    evidence = [_REACH[reach]]
    if like.stem:
        points = 1.0 + like.stem + (1.0 if like.ordered else 0.5 if like.directed else 0.0)
        evidence.append((points, "its name and the output's belong together"))
    if names.sounds_like_state(before.name):
        evidence.append((2.0, "its name is a state's"))
    if names.sounds_like_state(after.name):
        evidence.append((1.0, "the output's name is a state's"))
    if names.sounds_like_data(before.name):
        evidence.append((-4.0, "yet its name is one for data"))
    elif names.sounds_like_length(before.name) and not names.sounds_like_state(before.name):
        evidence.append((-3.0, "yet its name is a length's"))
    elif names.is_only_a_role(before.name) and not all(
        names.is_only_a_role(value.name) for value in model.inputs
    ):
        evidence.append((-1.0, "yet its name says nothing but input"))
    if names.sounds_like_result(after.name):
        evidence.append((-1.5, "yet the output's name is a result's"))
    if before.dims and after.dims:
        same = sum(one == other for one, other in zip(before.dims, after.dims, strict=True))
        evidence.append((same / len(before.dims), "the shapes agree"))
    if alone:
        evidence.append((1.0, "neither fits any other tensor"))
    if _from_the_end(model.inputs, before) == _from_the_end(model.outputs, after):
        evidence.append((0.25, "both have the same place, counted from the last"))
    evidence.sort(key=lambda entry: -entry[0])
    total = sum(points for points, _ in evidence)
    proper = names.sounds_like_state(before.name) or (like.stem > 0 and like.ordered)
    proper = proper or reach is Reach.SLOT
    reasons = tuple(reason for _, reason in evidence)
    return Pair(before.name, after.name, total, proper, reasons)


def _from_the_end(values: tuple[Value, ...], value: Value) -> int:
    return len(values) - values.index(value)


def _twins(model: Model, candidates: list[Pair], chosen: dict[str, Pair]) -> Iterator[Pair]:
    """What is left and has exactly the shape of a chosen state: an LSTM's h beside its c."""
    values = {value.name: value for value in (*model.inputs, *model.outputs)}
    taken = {pair.output for pair in chosen.values()}
    shapes = {
        (values[pair.input].elem_type, values[pair.input].dims): pair for pair in chosen.values()
    }
    for pair in candidates:
        before, after = values[pair.input], values[pair.output]
        if pair.input in chosen or pair.output in taken or before.dims != after.dims:
            continue
        elder = shapes.get((before.elem_type, before.dims))
        if names.sounds_like_result(pair.output):
            continue
        if elder is not None and pair.points + _TWIN >= ENOUGH:
            points = min(pair.points + _TWIN, elder.points - _TWIN_BEHIND)
            why = f"has the shape of the state {elder.input!r}"
            yield Pair(pair.input, pair.output, points, pair.proper, (why, *pair.reasons))


def _choose(pairs: Iterable[Pair]) -> dict[str, Pair]:
    """The best pair first; each input and output once."""
    chosen: dict[str, Pair] = {}
    used: set[str] = set()
    for pair in sorted(pairs, key=lambda pair: -pair.points):
        if pair.input not in chosen and pair.output not in used:
            chosen[pair.input] = pair
            used.add(pair.output)
    return chosen


def _leave_some_data(model: Model, chosen: dict[str, Pair]) -> dict[str, Pair]:
    """A model that takes states and nothing else is rare: then only proper pairs count, and the
    weakest of them must be good.
    """
    data = [value for value in model.inputs if value.name not in chosen and value.rank != 0]
    if data or not chosen:
        return chosen
    proper = {name: pair for name, pair in chosen.items() if pair.proper}
    if len(proper) < len(chosen):
        return proper
    weakest = min(chosen.values(), key=lambda pair: pair.points)
    if weakest.points >= _SURE:
        return chosen
    return {name: pair for name, pair in chosen.items() if pair is not weakest}
