"""RNN: the layer that runs a cell over time (`models.loop`).

The layer owns everything that a cell must not know: the order of the timesteps, where the states
come from, and what a stateful layer keeps between calls. Semantics and messages are Keras 2.2.4's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from models.layer import BatchShape, Layer, deserialize, register
from models.loop import CellLike, scan
from models.states import KeptStates, check_shapes, state_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.cells.base import States
    from models.states import Shape


@register
class RNN(Layer):
    """Runs `cell` over the time axis of inputs `(B, T, …)`.

    - `return_sequences`: the outputs of all timesteps `(B, T, …)` instead of the last `(B, …)`.
    - `return_state`: a list `[output, *final states]` instead of the output alone.
    - `go_backwards`: processes the last timestep first; the outputs stay in processed order.
    - `stateful`: sample i of a batch starts from the final states of sample i of the batch before.
      The batch size is fixed by the first batch, and no gradient crosses from batch to batch.
    """

    cell: Any
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool

    def __init__(
        self,
        cell: CellLike,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not hasattr(cell, "call"):
            raise ValueError(f"`cell` should have a `call` method. The RNN was passed: {cell}")
        if not hasattr(cell, "state_size"):
            raise ValueError(
                "The RNN cell should have an attribute `state_size` "
                "(tuple of integers, one integer per RNN state)."
            )
        self.cell = cell
        self.state_shapes = state_shapes(cell.state_size)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self._batch_size: int | None = None
        self._kept = KeptStates(len(self.state_shapes))

    # Shapes and names

    @property
    def state_names(self) -> tuple[str, ...]:
        """One short name per state: the cell's own, else state_0, state_1, …"""
        fallback = tuple(f"state_{index}" for index in range(len(self.state_shapes)))
        names: tuple[str, ...] = getattr(self.cell, "state_names", fallback)
        return names

    @property
    def output_shape(self) -> Shape:
        """The shape of one output, without batch and time."""
        size = getattr(self.cell, "output_size", None)
        return self.state_shapes[0] if size is None else state_shapes(size)[0]

    def build(self, input_shape: BatchShape) -> None:
        """Builds the cell for inputs `(batch, time, …)`; a stateful layer starts at zero."""
        if hasattr(self.cell, "build") and not getattr(self.cell, "built", False):
            self.cell.build((input_shape[0], *input_shape[2:]))
            self.cell.built = True
        self._batch_size = input_shape[0]
        if self.stateful:
            self.reset_states()
        self.built = True

    def compute_output_shape(self, input_shape: BatchShape) -> Any:
        batch, time = input_shape[:2]
        leading = (batch, time) if self.return_sequences else (batch,)
        output = (*leading, *self.output_shape)
        if not self.return_state:
            return output
        return [output, *((batch, *shape) for shape in self.state_shapes)]

    def compute_mask(self, inputs: Tensor, mask: Tensor | None) -> Any:
        """The mask that goes with the output: `mask` itself if the output has a time axis."""
        output_mask = mask if self.return_sequences else None
        if not self.return_state:
            return output_mask
        return [output_mask, *(None for _ in self.state_shapes)]

    # Calling

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        mask: Tensor | None = None,
        initial_state: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor | list[Tensor]:
        """Runs over all timesteps.

        `inputs` is `(B, T, …)`, or a list `[inputs, *initial states]`. `mask (B, T)` is true where
        a timestep counts: elsewhere the states stay and the output is the one before.
        `initial_state` takes the place of zeros, or of the states that a stateful layer has kept.
        """
        if not isinstance(inputs, Tensor):
            inputs, *given = inputs
            initial_state = given or initial_state
        _check_inputs(inputs, mask)  # before building: bad inputs must not shape the weights
        self.ensure_built(inputs)
        output, states = self.scan(inputs, self._starting_states(inputs, initial_state), mask)
        if self.stateful:
            self._kept.put(states)
        if not self.return_sequences:
            output = output[:, -1]
        return [output, *states] if self.return_state else output

    def scan(
        self, inputs: Tensor, states: States, mask: Tensor | None = None
    ) -> tuple[Tensor, States]:
        """The loop alone: outputs of all timesteps `(B, T, …)` and the final states.

        Pure: neither reads nor writes what a stateful layer keeps. The layer is built.
        """
        if self.go_backwards:
            inputs = inputs.flip(1)
            mask = None if mask is None else mask.flip(1)
        return scan(self.cell, inputs, states, mask)

    def _starting_states(
        self, inputs: Tensor, initial_state: Tensor | Sequence[Tensor] | None
    ) -> States:
        if self.stateful and inputs.shape[0] != self._batch_size:
            raise ValueError(
                f"Layer {self.name} is stateful and was built for batches of {self._batch_size} "
                f"samples; it received {inputs.shape[0]}."
            )
        if initial_state is None:
            return tuple(self._kept.get()) if self.stateful else self.get_initial_state(inputs)
        states = (initial_state,) if isinstance(initial_state, Tensor) else tuple(initial_state)
        if len(states) != len(self.state_shapes):
            raise ValueError(
                f"Layer has {len(self.state_shapes)} states but was passed "
                f"{len(states)} initial states."
            )
        shapes, batch = self.state_shapes, inputs.shape[0]
        check_shapes(states, batch, shapes, self.name, "The initial state")
        return states

    def get_initial_state(self, inputs: Tensor) -> States:
        """Zeros for each state, with the batch size, dtype and device of `inputs`."""
        return tuple(inputs.new_zeros(inputs.shape[0], *shape) for shape in self.state_shapes)

    # States kept between calls

    @property
    def states(self) -> list[Tensor | None]:
        """The kept states; None each while there are none."""
        return self._kept.get()

    def reset_states(self, states: Any = None) -> None:
        """Sets the kept states to `states` (an array, or a list of them), or to zero.

        Raises AttributeError if the layer is not stateful, ValueError while it does not know its
        batch size and where number or shapes do not fit.
        """
        if not self.stateful:
            raise AttributeError("Layer must be stateful.")
        if self._batch_size is None:
            raise ValueError(
                "If a RNN is stateful, it needs to know its batch size. Specify the batch size of "
                "your input tensors: call the layer once, or `build((batch, time, features))`."
            )
        like = next(self.parameters(), torch.empty(0))
        batch, shapes = self._batch_size, self.state_shapes
        if states is None:
            self._kept.put(tuple(like.new_zeros(batch, *shape) for shape in shapes))
            return
        given = states if isinstance(states, (list, tuple)) else (states,)
        values = [torch.as_tensor(value) for value in given]
        if len(values) != len(shapes):
            raise ValueError(
                f"Layer {self.name} expects {len(shapes)} states, but it received {len(values)} "
                f"state values. Input received: {states}"
            )
        check_shapes(values, batch, shapes, self.name, "State")
        self._kept.put(tuple(value.to(like) for value in values))

    # Configs

    def get_config(self) -> dict[str, Any]:
        cell = {"class_name": type(self.cell).__name__, "config": self.cell.get_config()}
        return {"cell": cell, **self._own_config()}

    def _own_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A new layer; its cell's class must be registered."""
        return cls(**{**config, "cell": deserialize(config["cell"])})


def _check_inputs(inputs: Tensor, mask: Tensor | None) -> None:
    if inputs.ndim < 3:
        raise ValueError(f"A recurrent layer takes (batch, time, …), not {tuple(inputs.shape)}.")
    if inputs.shape[1] == 0:
        raise ValueError("A recurrent layer needs at least one timestep.")
    if mask is not None and mask.shape != inputs.shape[:2]:
        raise ValueError(
            f"The mask has shape {tuple(mask.shape)}; (batch, time) of the inputs is "
            f"{tuple(inputs.shape[:2])}."
        )
