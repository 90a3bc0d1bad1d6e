"""StackedRNNCells: several cells as one, each reading the output of the one before."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Self, Unpack

from torch import Tensor, nn

from models.cells.like import accepted, build_once, output_shape, state_names, takes_constants
from models.layer import Layer
from models.registry import deserialize, register, serialize
from models.states import state_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.cells.base import States
    from models.cells.like import CellLike
    from models.options import LayerOptions


@register
class StackedRNNCells(Layer):
    """A stack of cells behaves as one cell; its states are those of all cells in one flat tuple.

    The first cell's states come first: `[h1, c1, h2, c2]`; with `reverse_state_order=True`, the
    order of Keras up to 2.2.2, last: `[h2, c2, h1, c1]`. Constants go to the cells that take them.
    """

    cells: list[Any]
    reverse_state_order: bool

    def __init__(
        self,
        cells: Sequence[CellLike],
        reverse_state_order: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        for cell in cells:
            if not hasattr(cell, "call"):
                raise ValueError("All cells must have a `call` method. received cells:", cells)
            if not hasattr(cell, "state_size"):
                raise ValueError(
                    "All cells must have a `state_size` attribute. received cells:", cells
                )
            if hasattr(cell, "state_shape"):
                raise TypeError("It is not possible at the moment to stack convolutional cells.")
        if not cells:
            raise ValueError("A stack needs at least one cell.")
        super().__init__(**options)
        if reverse_state_order:
            warnings.warn(
                "`reverse_state_order=True` in `StackedRNNCells` will soon be deprecated. Please "
                "update the code to work with the natural order of states if you rely on the RNN "
                "states, eg `RNN(return_state=True)`.",
                stacklevel=2,
            )
        self.cells = list(cells)
        self.reverse_state_order = reverse_state_order
        for number, cell in enumerate(cells):
            if isinstance(cell, nn.Module):  # a cell may be any object
                self.add_module(f"cell_{number}", cell)

    @property
    def state_size(self) -> tuple[Any, ...]:
        """The sizes of all states, cell by cell."""
        sizes: list[Any] = []
        for cell in self._in_state_order(self.cells):
            size = cell.state_size
            sizes += size if isinstance(size, (list, tuple)) else [size]
        return tuple(sizes)

    @property
    def state_names(self) -> tuple[str, ...]:
        """One short name per state: the number of the cell, counted from the input, and its own."""
        names = [
            tuple(f"cell_{number}_{name}" for name in state_names(cell))
            for number, cell in enumerate(self.cells)
        ]
        return tuple(name for part in self._in_state_order(names) for name in part)

    @property
    def output_size(self) -> Any:
        """The size of the last cell's output, an int or a shape."""
        shape = output_shape(self.cells[-1])
        return shape[0] if len(shape) == 1 else shape

    @property
    def input_ndim(self) -> int | None:
        """The number of axes of one timestep, with the batch axis; None for any."""
        ndim: int | None = getattr(self.cells[0], "input_ndim", None)
        return ndim

    def build(self, input_shape: Any) -> None:
        """Builds the cells for inputs `(batch, D)`, or a list of that and the constants' shapes."""
        shape, *constants = input_shape if isinstance(input_shape, list) else [input_shape]
        for cell in self.cells:
            takes = constants and takes_constants(cell)
            build_once(cell, [shape, *constants] if takes else shape, self.dtype)
            shape = (shape[0], *output_shape(cell))
        self.built = True

    def call(
        self,
        inputs: Tensor,
        states: Sequence[Tensor],
        constants: Sequence[Tensor] | None = None,
        training: bool | None = None,
    ) -> tuple[Tensor, States]:
        """One timestep through all cells."""
        new_states: list[States] = []
        for cell, own in zip(self.cells, self.split(states), strict=True):
            keywords = accepted(cell, constants=constants, training=training)
            inputs, new = cell.call(inputs, own, **keywords)
            new_states.append(tuple(new))
        return inputs, self.join(new_states)

    def split(self, states: Sequence[Tensor]) -> list[States]:
        """The flat states by cell, first cell first."""
        rest = iter(states)
        parts = [
            tuple(next(rest) for _ in state_shapes(cell.state_size))
            for cell in self._in_state_order(self.cells)
        ]
        return self._in_state_order(parts)

    def join(self, parts: list[States]) -> States:
        """The states of each cell, first cell first, as one flat tuple."""
        return tuple(state for part in self._in_state_order(parts) for state in part)

    def _in_state_order(self, items: list[Any]) -> list[Any]:
        return items[::-1] if self.reverse_state_order else items

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "cells": [serialize(cell) for cell in self.cells]}
        if self.reverse_state_order:
            config["reverse_state_order"] = True
        return config

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, type[Any]] | None = None
    ) -> Self:
        cells = [deserialize(cell, custom_objects) for cell in config["cells"]]
        return cls(**{**config, "cells": cells})
