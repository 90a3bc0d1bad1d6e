"""RNN: the layer that runs a cell over time (`models.loop`).

The layer owns everything that a cell must not know: the order of the timesteps, where the states
come from, and what a stateful layer keeps between calls. Semantics and messages are Keras 2.2.4's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

from torch import Tensor

from models import regularizers
from models.arguments import sort_out
from models.cells.like import build_once, output_shape, state_names, takes_constants
from models.cells.stacked import StackedRNNCells
from models.input_shapes import check_ndim, check_shape, shapes
from models.loop import scan
from models.registry import deserialize, register, serialize
from models.stateful import Stateful
from models.states import check_states, state_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.cells import CellLike, States
    from models.options import BatchShape, LayerOptions
    from models.regularizers import Regularize, RegularizerLike
    from models.states import Shape


@register
class RNN(Stateful):
    """Runs `cell`, or a list of cells as one stack, over the time axis of inputs `(B, T, …)`.

    - `return_sequences`: the outputs of all timesteps `(B, T, …)` instead of the last `(B, …)`.
    - `return_state`: a list `[output, *final states]` instead of the output alone.
    - `go_backwards`: processes the last timestep first; the outputs stay in processed order.
    - `stateful`: sample i of a batch starts from the final states of sample i of the batch before.
      The batch size is fixed by `batch_input_shape` or by the first batch, and no gradient crosses
      from batch to batch.
    - `unroll`: as in Keras. There it makes a faster graph; here a loop is a loop. Like Keras, it
      wants more than one timestep, and gives zeros where the first steps are masked.
    - `activity_regularizer`: a penalty of all that the layer returns, states included.
    """

    cell: Any
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    unroll: bool
    activity_regularizer: Regularize | None

    def __init__(
        self,
        cell: CellLike | Sequence[CellLike],
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        activity_regularizer: RegularizerLike = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.stateful = stateful
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        if not hasattr(cell, "call"):
            raise ValueError(f"`cell` should have a `call` method. The RNN was passed: {cell}")
        if not hasattr(cell, "state_size"):
            raise ValueError(
                "The RNN cell should have an attribute `state_size` "
                "(tuple of integers, one integer per RNN state)."
            )
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.unroll = unroll
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self._takes_constants = takes_constants(cell)  # once: a call should not ask again
        self._num_constants: int | None = None
        self._keep_states(len(state_shapes(self.cell.state_size)))

    # Shapes and names

    @property
    def state_names(self) -> tuple[str, ...]:
        """One short name per state: the cell's own, else state_0, state_1, …"""
        return state_names(self.cell)

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        """The shape of each state, without the batch axis."""
        return self.shapes_of_states(self._input_shape or self.batch_input_shape)

    def shapes_of_states(self, input_shape: BatchShape | None) -> tuple[Shape, ...]:
        """The shape of each state, without the batch axis, for inputs `(batch, time, …)`.

        That of a convolution's depends on the inputs: ValueError where they are not known.
        """
        sizes = state_shapes(self.cell.state_size)
        of_input = getattr(self.cell, "state_shape", None)
        if of_input is None:
            return sizes
        if input_shape is None:
            raise ValueError(
                f"The size of {self.name}'s states depends on that of its inputs: build it, call "
                "it, or pass `batch_input_shape` first."
            )
        return (of_input((input_shape[0], *input_shape[2:])),) * len(sizes)

    def shape_of_output(self, input_shape: BatchShape) -> Shape:
        """The shape of one timestep's output, without the batch axis."""
        if hasattr(self.cell, "state_shape"):
            return self.shapes_of_states(input_shape)[0]
        return output_shape(self.cell)

    def build(self, input_shape: Any = None) -> None:
        """Builds the cell for inputs `(batch, time, …)`; a stateful layer starts at zero.

        Without an argument: for the `batch_input_shape` that the layer was given. With constants,
        a list of the inputs' shape and theirs.
        """
        shape, *constants = shapes(input_shape or self.batch_input_shape, self.name)
        step_shape = (shape[0], *shape[2:])
        build_once(self.cell, [step_shape, *constants] if constants else step_shape, self.dtype)
        self._input_shape = (shape[0] if self.stateful else None, None, *shape[2:])
        if self.stateful and not self._kept.fit(shape[0]):
            self.reset_states()
        self.built = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape, *_ = shapes(input_shape, self.name)
        leading = shape[:2] if self.return_sequences else shape[:1]
        output = (*leading, *self.shape_of_output(shape))
        if not self.return_state:
            return output
        return [output, *((shape[0], *state) for state in self.shapes_of_states(shape))]

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask that goes with the output: `mask` itself if the output has a time axis."""
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        output_mask = mask if self.return_sequences else None
        if not self.return_state:
            return output_mask
        return [output_mask, *(None for _ in self._kept.get())]

    # Calling

    def forward(
        self,
        inputs: Tensor | Sequence[Tensor],
        mask: Tensor | Sequence[Tensor | None] | None = None,
        initial_state: Tensor | Sequence[Tensor] | None = None,
        constants: Tensor | Sequence[Tensor] | None = None,
        training: bool | None = None,
    ) -> Tensor | list[Tensor]:
        """Runs over all timesteps.

        `inputs` is `(B, T, …)`, or a list `[inputs, *initial states, *constants]`. `mask (B, T)` is
        true where a timestep counts: elsewhere the states stay and the output is the one before;
        of a list of masks, one for each of the inputs, the first counts.
        `initial_state` takes the place of zeros, or of the states that a stateful layer has kept.
        `constants` are handed to the cell at every timestep. `training` says whether dropout acts;
        None leaves that to `train()` and `eval()`.

        Raises ValueError where shapes, or the numbers of states and constants, do not fit.
        """
        mask = mask if mask is None or isinstance(mask, Tensor) else mask[0]
        takes = self._takes_constants
        states = len(self._kept.get()) if takes else None
        x, initial_state, constants = sort_out(
            inputs, initial_state, constants, self._num_constants, states
        )
        if constants and not takes:
            raise ValueError("RNN cell does not support constants")
        self._check_inputs(x, mask)  # before building: bad inputs must not shape the weights
        self._build_for(x, constants)
        starting = self._starting_states(x, initial_state)
        training = self.training if training is None else training
        output, final = self.scan(x, starting, mask, constants, training)
        if self.stateful:
            self._kept.put(final)
        returned = [output if self.return_sequences else output[:, -1]]
        if self.return_state:
            returned += final
        self.penalise(*returned)
        return returned if self.return_state else returned[0]

    def scan(
        self,
        inputs: Tensor,
        states: States,
        mask: Tensor | None = None,
        constants: Sequence[Tensor] | None = None,
        training: bool = False,
    ) -> tuple[Tensor, States]:
        """The loop alone: outputs of all timesteps `(B, T, …)` and the final states.

        Pure: neither reads nor writes what a stateful layer keeps. The layer is built.
        """
        if self.go_backwards:
            inputs = inputs.flip(1)
            mask = None if mask is None else mask.flip(1)
        return scan(self.cell, inputs, states, mask, constants, training, self.unroll)

    def _build_for(self, inputs: Tensor, constants: list[Tensor] | None) -> None:
        if constants:
            self._num_constants = len(constants)
        if not self.built and self.batch_input_shape is not None:
            batch, _, *rest = self.batch_input_shape
            expected = (batch if self.stateful else None, None, *rest)
            check_shape(tuple(inputs.shape), expected, self.name)
        shapes = [tuple(tensor.shape) for tensor in (inputs, *(constants or ()))]
        self.ensure_built(inputs, shapes if constants else shapes[0])
        if self._input_shape is not None:  # a subclass may build without us
            check_shape(tuple(inputs.shape), self._input_shape, self.name)

    def _check_inputs(self, inputs: Tensor, mask: Tensor | None) -> None:
        check_ndim(inputs, getattr(self.cell, "input_ndim", None), self.name)
        if inputs.shape[1] == 0:
            raise ValueError("A recurrent layer needs at least one timestep.")
        if self.unroll and inputs.shape[1] == 1:
            raise ValueError(
                "Cannot unroll a RNN if the time dimension is undefined or equal to 1."
            )
        if mask is not None and mask.shape != inputs.shape[:2]:
            raise ValueError(
                f"The mask has shape {tuple(mask.shape)}; (batch, time) of the inputs is "
                f"{tuple(inputs.shape[:2])}."
            )

    def _starting_states(self, inputs: Tensor, initial_state: Sequence[Tensor] | None) -> States:
        if initial_state is None:
            return self._kept_states() if self.stateful else self.get_initial_state(inputs)
        expected = self.shapes_of_states(tuple(inputs.shape))
        if len(initial_state) != len(expected):
            raise ValueError(
                f"Layer has {len(expected)} states but was passed "
                f"{len(initial_state)} initial states."
            )
        check_states(initial_state, inputs.shape[0], expected, self.name, "The initial state")
        return tuple(initial_state)

    def get_initial_state(self, inputs: Tensor) -> States:
        """Zeros for each state, with the batch size, dtype and device of `inputs`."""
        expected = self.shapes_of_states(tuple(inputs.shape))
        return tuple(inputs.new_zeros(inputs.shape[0], *shape) for shape in expected)

    # Configs

    def get_config(self) -> dict[str, Any]:
        return {"cell": serialize(self.cell), **self._own_config()}

    def _own_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
        }
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        if self._num_constants is not None:
            config["num_constants"] = self._num_constants
        return config

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, type[Any]] | None = None
    ) -> Self:
        """A new layer; its cell's class is registered, or among `custom_objects`."""
        cell = deserialize(config["cell"], custom_objects)
        return cls._with_constants({**config, "cell": cell})

    @classmethod
    def _with_constants(cls, arguments: dict[str, Any]) -> Self:
        count = arguments.pop("num_constants", None)
        layer = cls(**arguments)
        layer._num_constants = count
        return layer
