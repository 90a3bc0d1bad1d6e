"""Stateful: a layer that may keep its states from batch to batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from models.layer import Layer
from models.states import KeptStates, check_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.options import BatchShape
    from models.states import Shape


class Stateful(Layer):
    """What `RNN` does with the states that it keeps between calls, if it is `stateful`."""

    stateful: bool
    _kept: KeptStates
    _input_shape: BatchShape | None  # what the layer was built for

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        """The shape of each state, without the batch axis."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its states are like")

    def _keep_states(self, count: int) -> None:
        self._kept, self._input_shape = KeptStates(count), None

    @property
    def states(self) -> list[Tensor | None]:
        """The kept states; None each while there are none."""
        return self._kept.get()

    @states.setter
    def states(self, states: Sequence[Tensor]) -> None:
        self._kept.put(tuple(states))

    def reset_states(self, states: Any = None) -> None:
        """Sets the kept states to `states` (an array, or a list of them), or to zero.

        Raises AttributeError if the layer is not stateful, ValueError while it does not know its
        batch size and where number or shapes do not fit.
        """
        if not self.stateful:
            raise AttributeError("Layer must be stateful.")
        known = self._input_shape or self.batch_input_shape or (None,)
        batch, expected = known[0], () if known[0] is None else self.state_shapes
        if batch is None or any(None in shape for shape in expected):
            raise ValueError(
                "If a RNN is stateful, it needs to know its batch size. Specify the batch size of "
                "your input tensors: pass `batch_input_shape`, call the layer once, or "
                "`build((batch, time, features))`. The same thing goes for the number of rows and "
                "columns of images."
            )
        like = next(self.parameters(), self._kept.get()[0])
        if states is None:
            like = torch.empty(0, dtype=self.dtype) if like is None else like
            self._kept.put(tuple(like.new_zeros(batch, *shape) for shape in expected))
            return
        given = states if isinstance(states, (list, tuple)) else (states,)
        values = [torch.as_tensor(value) for value in given]
        if len(values) != len(expected):
            raise ValueError(
                f"Layer {self.name} expects {len(expected)} states, but it received {len(values)} "
                f"state values. Input received: {states}"
            )
        check_states(values, batch, expected, self.name, "State")
        self._kept.put(tuple(value if like is None else value.to(like) for value in values))

    def _kept_states(self) -> tuple[Tensor, ...]:
        """The states as the weights are: they may have been set before there were any."""
        like, kept = next(self.parameters(), None), self._kept.get()
        return tuple(state if like is None else state.to(like) for state in kept)
