"""Sequential: layers in a row, as one function from (input, states) to (output, states)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, Unpack

import torch
from torch import Tensor, nn

from models.cells.like import build_once
from models.dense import Dense
from models.layer import Layer
from models.registry import deserialize, register, serialize
from models.rnn import RNN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.cells import States
    from models.options import BatchShape, LayerOptions


@register
class Sequential(Layer):
    """Maps frames `(B, T, …)` to outputs, one per timestep or one in all.

    One in all where the last recurrent layer has return_sequences=False; the ones before it have
    True. None has return_state: the states of all of them, in layer order, form one flat tuple, and
    `states_spec` names them. A mask reaches all layers; a `Masking` makes one.

    `input_name` and `output_name` are what callers of a served model will see. A first layer with
    `batch_input_shape` builds the model at once.
    """

    input_name: str
    output_name: str

    def __init__(
        self,
        layers: Sequence[Layer],
        input_name: str = "frames",
        output_name: str = "output",
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if not layers:
            raise ValueError("A Sequential needs at least one layer.")
        for layer in layers:
            _check_layer(layer)
            _check_name(layer)
        _check_sequences(layers)
        self.input_name = input_name
        self.output_name = output_name
        _name_apart(layers)
        self.stack = nn.ModuleDict({layer.name: layer for layer in layers})
        self._input_shape: BatchShape | None = None
        first = layers[0].batch_input_shape
        if first is not None:
            self.build(first)

    @property
    def input_shape(self) -> BatchShape | None:
        """What the model was built for, None where any number will do; None before that."""
        return self._input_shape

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order."""
        return [layer for layer in self.stack.values() if isinstance(layer, Layer)]

    @property
    def recurrent_layers(self) -> list[RNN]:
        """The layers that have states, in order."""
        return [layer for layer in self.layers if isinstance(layer, RNN)]

    @property
    def causal(self) -> bool:
        """Whether no output depends on later frames, so that a sequence may come in pieces."""
        return not any(layer.go_backwards for layer in self.recurrent_layers)

    @property
    def weights(self) -> list[Tensor]:
        return [weight for layer in self.layers for weight in layer.weights]

    def build(self, input_shape: BatchShape) -> None:
        """Builds all layers for inputs `(batch, time, …)`; batch and time may be None.

        Without recurrent layers `(batch, D)` will do.
        """
        # Only stateful layers depend on the batch size, none on the number of frames.
        stateful = any(layer.stateful for layer in self.recurrent_layers)
        batch = input_shape[0] if stateful else None
        time = (None,) if len(input_shape) > 2 else ()
        self._input_shape = (batch, *time, *input_shape[1 + len(time) :])
        shape = input_shape
        for layer in self.layers:
            build_once(layer, shape, self.dtype)
            shape = layer.compute_output_shape(shape)
        self.built = True

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    # Calling

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        initial_state: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Outputs for `inputs (B, T, …)`; `mask (B, T)` is true where a timestep counts."""
        return self._run(self.layers, inputs, mask, initial_state)

    def logits(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        initial_state: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """As calling the model, but without the activation of its last layer, a Dense.

        A loss that takes logits is exact where the logarithm of a softmax would underflow.
        """
        self.ensure_built(inputs)
        *body, head = self.layers
        if not isinstance(head, Dense):
            raise TypeError(f"Logits need a Dense as the last layer, not {type(head).__name__}.")
        return head.logits(self._run(body, inputs, mask, initial_state))

    def step(self, inputs: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, States]:
        """Pure: frames `(B, T, …)`, T ≥ 1, and the states → outputs, new states."""
        self.ensure_built(inputs)
        x = inputs
        parts = self._split(states)
        new_states: list[Tensor] = []
        for layer in self.layers:
            if isinstance(layer, RNN):
                x, final = layer.scan(x, parts.pop(0))
                new_states.extend(final)
                x = x if layer.return_sequences else x[:, -1]
            else:
                x = layer(x)
        return x, tuple(new_states)

    def _run(
        self,
        layers: Sequence[Layer],
        x: Tensor,
        mask: Tensor | None,
        initial_state: Sequence[Tensor] | None,
    ) -> Tensor:
        parts = None if initial_state is None else self._split(initial_state)
        for layer in layers:
            after = layer.compute_mask(x, mask)
            if isinstance(layer, RNN):
                x = layer(x, mask=mask, initial_state=parts and parts.pop(0))
            else:
                x = layer(x)
            mask = after
        return x

    # States

    def states_spec(self) -> list[tuple[str, tuple[int, ...]]]:
        """(name, shape without the batch axis) of every state, in layer order."""
        return [
            (f"{layer.name}_{state}", shape)
            for layer in self.recurrent_layers
            for state, shape in zip(layer.state_names, layer.state_shapes, strict=True)
        ]

    def initial_state(self, batch: int) -> list[Tensor]:
        """Zeros `(batch, …)` for every state, with the dtype and device of the weights."""
        like = next(self.parameters(), torch.empty(0))
        return [like.new_zeros(batch, *shape) for _, shape in self.states_spec()]

    def reset_states(self) -> None:
        """Sets the kept states of all stateful layers to zero."""
        for layer in self.recurrent_layers:
            if layer.stateful:
                layer.reset_states()

    def _split(self, states: Sequence[Tensor]) -> list[States]:
        """One tuple of states per recurrent layer."""
        expected = len(self.states_spec())
        if len(states) != expected:
            raise ValueError(
                f"{self.name} has {expected} states but was passed {len(states)} initial states."
            )
        rest = iter(states)
        return [tuple(next(rest) for _ in layer.state_shapes) for layer in self.recurrent_layers]

    # Configs

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_name": self.input_name,
            "output_name": self.output_name,
            "input_shape": self._input_shape,
            "layers": [serialize(layer) for layer in self.layers],
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, type[Any]] | None = None
    ) -> Self:
        """A new model; built, with fresh weights, if the config's model was."""
        arguments = dict(config)
        input_shape = arguments.pop("input_shape")
        arguments["layers"] = [deserialize(layer, custom_objects) for layer in config["layers"]]
        model = cls(**arguments)
        if input_shape is not None:
            model.build(tuple(input_shape))
        return model


def _check_layer(layer: Layer) -> None:
    if not isinstance(layer, Layer):
        raise TypeError(f"A Sequential takes layers of this package, not {type(layer).__name__}.")
    if isinstance(layer, RNN) and layer.return_state:
        raise ValueError(
            f"A Sequential hands one tensor from layer to layer: {layer.name} needs "
            "return_state=False."
        )


def _check_sequences(layers: Sequence[Layer]) -> None:
    for layer in [layer for layer in layers if isinstance(layer, RNN)][:-1]:
        if not layer.return_sequences:
            raise ValueError(
                f"{layer.name} needs return_sequences=True: another recurrent layer comes after it."
            )


def _check_name(layer: Layer) -> None:
    if hasattr(nn.ModuleDict(), layer.name):  # which would say so less clearly
        raise ValueError(f"{layer.name!r} is a name of torch's own: give the layer another.")


def _name_apart(layers: Sequence[Layer]) -> None:
    """Numbers default names that are taken: lstm, lstm_1, …; ValueError for given ones."""
    given = [layer.given_name for layer in layers if layer.given_name is not None]
    doubles = sorted({name for name in given if given.count(name) > 1})
    if doubles:
        raise ValueError(f"Layer names are unique in a model; used twice: {', '.join(doubles)}.")
    taken = set(given)
    for layer in layers:
        if layer.given_name is not None:
            continue
        name, number = layer.name, 0
        while name in taken:
            number += 1
            name = f"{layer.name}_{number}"
        layer.given_name = name
        taken.add(name)
