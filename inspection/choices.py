"""What somebody says instead of leaving it to the guess: from options, checked with the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inspection import states
from inspection.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inspection.reading import Model
    from inspection.states import Pair


@dataclass(frozen=True, slots=True)
class Choices:
    """What somebody says instead of leaving it to the guess.

    `pairs` are (input, output), None to guess; `sizes` are for axes of any size, by symbol or as
    `input[axis]`; `batched` False: no batch axis, even where there is one.
    """

    pairs: tuple[tuple[str, str], ...] | None = None
    constants: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    batched: bool = True


def parse(
    state: list[str] | None,
    stateless: bool,
    constant: list[str] | None,
    size: list[str] | None,
    *,
    batched: bool = True,
) -> Choices:
    """From the texts of the options. Raises Refused."""
    pairs = tuple(_split("--state", text) for text in state or ())
    if pairs and stateless:
        raise Refused("--state and --stateless: expected one of the two")
    return Choices(
        pairs=pairs if pairs or stateless else None,
        constants=dict(_split("--constant", text) for text in constant or ()),
        sizes=dict(_size(text) for text in size or ()),
        batched=batched,
    )


def _split(option: str, text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not (left and equals and right):
        raise Refused(f"{option} {text}: expected NAME=VALUE")
    return left, right


def _size(option: str) -> tuple[str, int]:
    name, text = _split("--size", option)
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise Refused(f"--size {option}: expected a whole number, 1 or more")
    return name, int(text)


def named(model: Model, pairs: tuple[tuple[str, str], ...]) -> tuple[Pair, ...]:
    """Raises Refused at a name that is not there, or twice, or two tensors that cannot be equal."""
    inputs = {value.name: value for value in model.inputs}
    outputs = {value.name: value for value in model.outputs}
    for before, after in pairs:
        for kind, name, known in (("input", before, inputs), ("output", after, outputs)):
            if name not in known:
                raise Refused(
                    f"--state {before}={after}: no {kind} {name!r}; there is: {', '.join(known)}"
                )
        if not states.may_be_equal(inputs[before], outputs[after]):
            raise Refused(
                f"--state {before}={after}: the model reads {inputs[before]} and writes"
                f" {outputs[after]}; expected the same type and shape"
            )
    for side in zip(*pairs, strict=True):
        twice = [name for name in side if side.count(name) > 1]
        if twice:
            raise Refused(f"--state: {twice[0]!r} is named twice; expected each tensor once")
    return states.given(pairs)


def check_sizes(sizes: Iterable[str], known: Iterable[str]) -> None:
    """Raises Refused at a size for none of the variables `known`."""
    known = list(known)
    for name in sizes:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise Refused(f"--size {name}: no such axis of any size; there is: {listed}")
