"""Which axes a caller may leave out of an input, and what that means for the outputs.

See `Session.step` for the table. An axis that is left out has size 1 on the wire, and is left out
of the outputs too. A model without a batch axis has none to leave out: `batch_size` is None then.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnnserve.specs import TensorSpec

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """Which axes a request has. None where the model or the input has no such axis at all."""

    batch: bool | None
    time: bool | None


class Form(NamedTuple):
    """One accepted way to give an input: the sizes of its axes, -1 for any."""

    dims: Shape
    left_out: Shape  # axes of the full shape, ascending
    layout: Layout
    time_axis: int | None  # within `dims`


class Matched(NamedTuple):
    """A caller's shape, understood: the shape on the wire and the layout."""

    shape: Shape
    layout: Layout


def rows(spec: TensorSpec, batch_size: int | None) -> Shape:
    """The shape of a tensor of a session; -1 is any size."""
    return spec.shape if batch_size is None else (batch_size, *spec.shape[1:])


def matcher(
    spec: TensorSpec, batch_size: int | None, kind: str = "input"
) -> Callable[[Shape], Matched]:
    """A function from a caller's shape to what it means; ValueError where it means nothing.

    It remembers the shapes it has seen: a client sends the same few again and again.
    """
    forms = _forms(spec, batch_size)
    return lru_cache(maxsize=256)(partial(_match, f"{kind} {spec.name!r}", forms))


def _forms(spec: TensorSpec, batch_size: int | None) -> dict[int, Form]:
    """The accepted forms by number of axes; no two have the same."""
    full = rows(spec, batch_size)
    time = spec.time_axis
    choices: list[Shape] = [()]
    if batch_size == 1:
        choices.append((0,))
    if time is not None:
        # Without its batch axis a sequence of frames has as many axes as a batch of frames:
        # a single row's is a sequence, several rows' a batch.
        choices.append((0, time) if batch_size == 1 else (time,))
    batched = batch_size is not None
    return {len(full) - len(out): _form(full, batched, time, out) for out in choices}


def _form(full: Shape, batched: bool, time: int | None, left_out: Shape) -> Form:
    kept = [axis for axis in range(len(full)) if axis not in left_out]
    return Form(
        dims=tuple(full[axis] for axis in kept),
        left_out=left_out,
        layout=Layout(
            0 not in left_out if batched else None, None if time is None else time not in left_out
        ),
        time_axis=kept.index(time) if time in kept else None,
    )


def _match(what: str, forms: dict[int, Form], shape: Shape) -> Matched:
    form = forms.get(len(shape))
    if form is None or any(
        want not in (-1, size) for want, size in zip(form.dims, shape, strict=True)
    ):
        raise ValueError(f"{what}: expected shape {_expected(forms)}, given {shape}")
    if form.time_axis is not None and shape[form.time_axis] == 0:
        raise ValueError(f"{what}: at least one timestep is needed, given {shape}")
    wire = list(shape)
    for axis in form.left_out:
        wire.insert(axis, 1)
    return Matched(tuple(wire), form.layout)


def _expected(forms: dict[int, Form]) -> str:
    return " or ".join(_text(form) for form in forms.values())


def _text(form: Form) -> str:
    words = [
        "time" if axis == form.time_axis else "any" if size == -1 else str(size)
        for axis, size in enumerate(form.dims)
    ]
    return f"({', '.join(words)}{',' * (len(words) == 1)})"


def agree(layouts: dict[str, Layout]) -> Layout:
    """The common layout of a request's inputs, by name; ValueError where they differ."""
    batch = {layout.batch for layout in layouts.values()} - {None}
    time = {layout.time for layout in layouts.values()} - {None}
    if len(batch) > 1 or len(time) > 1:
        has = ", ".join(f"{name!r} {_axes(layout)}" for name, layout in layouts.items())
        raise ValueError(f"inputs must leave out the same axes, but {has}")
    return Layout(batch.pop() if batch else None, time.pop() if time else None)


def _axes(layout: Layout) -> str:
    axes = [name for name, there in zip(("batch", "time"), layout, strict=True) if there]
    return f"has {' and '.join(axes)}" if axes else "has neither batch nor time"


def squeezed(
    shape: Shape, spec: TensorSpec, layout: Layout, return_sequences: bool
) -> tuple[int, ...]:
    """The shape to give an output that came with `shape`, without the axes nobody asked for."""
    time = spec.time_axis
    wants_time = return_sequences and layout.time is not False
    if time is not None and not wants_time and len(shape) == len(spec.shape):
        shape = shape[:time] + shape[time + 1 :]
    return shape[1:] if layout.batch is False else shape
