"""Our layers, called as Keras was for the golden files, and how far their answers lie apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import models
from models.cells.dropout import DropoutMasks


@models.register
class MinimalCell(models.Layer):
    """`h = x W + h U`."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.add_weight("kernel", (input_shape[-1], self.units))
        self.add_weight("recurrent_kernel", (self.units, self.units))

    def call(self, inputs: Tensor, states: Any) -> Any:
        h = inputs @ self.kernel + states[0] @ self.recurrent_kernel
        return h, [h]


@models.register
class ConditionedCell(MinimalCell):
    """`h = tanh(x W + h U + Σ constant V)`, with a V for each constant."""

    def build(self, input_shape: Any) -> None:
        shape, *constants = input_shape if isinstance(input_shape, list) else [input_shape]
        super().build(shape)
        self.constant_kernels = [
            self.add_weight(f"constant_kernel_{number}", (constant[-1], self.units))
            for number, constant in enumerate(constants)
        ]

    def call(self, inputs: Tensor, states: Any, constants: Any = ()) -> Any:
        h, _ = super().call(inputs, states)
        for constant, kernel in zip(constants, self.constant_kernels, strict=True):
            h = h + constant @ kernel
        h = h.tanh()
        return h, [h]


@models.register
class CarryCell(MinimalCell):
    """`h = tanh(x W + h U)`, `c = c/2 + h V`, the output `c R`: neither of the two states."""

    def __init__(self, units: int, carry: int, outputs: int, **options: Any) -> None:
        super().__init__(units, **options)
        self.state_size, self.output_size = (units, carry), outputs

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.add_weight("carry_kernel", self.state_size)
        self.add_weight("output_kernel", (self.state_size[1], self.output_size))

    def call(self, inputs: Tensor, states: Any) -> Any:
        h = super().call(inputs, states)[0].tanh()
        c = 0.5 * states[1] + h @ self.carry_kernel
        return c @ self.output_kernel, [h, c]


@models.register
class DecayCell:
    """`h = x + decay · h`, without weights, neither a layer nor a module."""

    def __init__(self, units: int, decay: float) -> None:
        self.state_size, self.decay = units, decay

    def call(self, inputs: Tensor, states: Any) -> Any:
        h = inputs + self.decay * states[0]
        return h, [h]

    @classmethod
    def from_config(cls, config: Any) -> DecayCell:
        return cls(**config)


def errors(case: dict[str, Any]) -> dict[str, float]:
    """The greatest difference of each array, as a share of the greatest number in Keras' one.

    What a call returns and keeps is rounded as one: there the greatest number of all of it counts.
    Names of gradients begin with "gradient".
    """
    layer = layer_of(case)
    found: dict[str, float] = {}
    for number, call in enumerate(case["calls"]):
        greatest = max(size(array) for array in call["returned"])
        for name, ours, keras in compare(layer, call):
            if ours.shape != keras.shape:
                raise ValueError(f"{name} has shape {ours.shape}; Keras' has {keras.shape}")
            scale = greatest if name.startswith(("returned", "kept")) else size(keras)
            found[f"{name} of call {number}"] = size(ours - keras) / (scale or 1.0)
    return found


def size(array: Any) -> float:
    return float(np.abs(array).max(initial=0.0))


def layer_of(case: dict[str, Any]) -> Any:
    """Our layer from Keras' config, with Keras' weights, and with the dropout masks it drew."""
    call = case["calls"][0]
    layer = models.deserialize(case["layer"])
    shapes = [array.shape for array in (call["inputs"], *call["constants"])]
    layer.build(shapes if call["constants"] else shapes[0])
    layer.set_weights(case["weights"])
    layer.to(torch.from_numpy(call["inputs"]).dtype)
    for cell, drawn in zip(simple_cells(layer.cell), case["dropout_masks"], strict=True):
        if drawn["inputs"] or drawn["recurrent"]:
            masks = DropoutMasks(*(fixed(drawn[name]) for name in ("inputs", "recurrent")))
            cell.dropout_masks = lambda *_, masks=masks: masks
    return layer


def simple_cells(cell: Any) -> list[Any]:
    """The cells of which a stack, or a stack of stacks, consists."""
    if not hasattr(cell, "cells"):
        return [cell]
    return [simple for part in cell.cells for simple in simple_cells(part)]


def fixed(masks: Any) -> Any:
    return masks and tuple(map(torch.from_numpy, masks))


def compare(layer: Any, call: dict[str, Any]) -> Any:
    """Calls the layer; (name, our array, Keras' array) of everything that Keras told."""
    if "reset" in call:
        layer.reset_states(call["reset"])
    given = [call["inputs"], *call["initial_state"], *call["constants"]]
    leaves = [torch.from_numpy(array).requires_grad_() for array in given]
    returned = run(layer, call, leaves)
    losses = sum(layer.losses, torch.zeros(()))
    directions = map(torch.from_numpy, call["directions"])
    scalar = sum((r * d).sum() for r, d in zip(returned, directions, strict=True)) + losses
    expected = call["gradients"]
    wanted = [expected["inputs"], *expected["initial_state"], *expected["constants"]]
    leaves, wanted = leaves + layer.trainable_weights, wanted + expected["weights"]
    gradients = torch.autograd.grad(scalar, leaves, allow_unused=True, materialize_grads=True)
    yield "losses", losses.detach().numpy(), call["losses"]
    yield from named("returned", returned, call["returned"])
    if call["states"] is not None:
        yield from named("kept state", layer.states, call["states"])
    yield from named("gradient", gradients, wanted)


def run(layer: Any, call: dict[str, Any], tensors: list[Tensor]) -> list[Tensor]:
    """The layer's answer as a list, from keywords or, with `flat`, from one list."""
    options: dict[str, Any] = {"training": True}  # dropout masks are fixed, nothing else depends
    if call["mask"] is not None:
        options["mask"] = torch.from_numpy(call["mask"]).bool()
    if call.get("flat"):
        answer = layer(tensors, **options)
    else:
        inputs, *rest = tensors
        states = len(call["initial_state"])
        answer = layer(
            inputs, initial_state=rest[:states] or None, constants=rest[states:] or None, **options
        )
    return answer if isinstance(answer, list) else [answer]


def named(name: str, ours: Any, keras: Any) -> Any:
    for number, (tensor, array) in enumerate(zip(ours, keras, strict=True)):
        yield f"{name} {number}", tensor.detach().numpy(), array
