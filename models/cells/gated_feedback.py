"""GatedFeedbackRNNCell: stacked layers whose states reach every layer of the next timestep.

Chung, Gulcehre, Cho, Bengio, *Gated Feedback Recurrent Neural Networks*, 2015 (arXiv:1502.02367).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor, nn

from models import activations, initializers
from models.cells.like import build_once
from models.layer import Layer
from models.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.activations import Activation, ActivationLike
    from models.cells.base import States
    from models.initializers import Initialize, InitializerLike
    from models.options import LayerOptions

KINDS = {"tanh": 1, "lstm": 4, "gru": 3}  # and the number of products with a layer's input


@register
class GatedFeedbackRNNCell(Layer):
    """L layers of the given `units`; `kind` is "tanh", "lstm" or "gru".

    A scalar gate for each pair of layers i → j says how much of layer i's last state layer j sees:

        g^{i→j} = sigmoid(w^{i→j} · h_t^{j-1} + u^{i→j} · h*_{t-1})        h_t^0 = x_t

    where h* are the last states of all layers, side by side. The recurrent product of the candidate
    is `F_j = Σ_i g^{i→j} U^{i→j} h_{t-1}^i`; all else is as in the plain layer:

        tanh:  h^j = act(W h_t^{j-1} + b + F_j)
        lstm:  c̃^j = act(W_c h_t^{j-1} + b_c + F_j);  i, f, o from h_t^{j-1} and h_{t-1}^j
        gru:   h̃^j = act(W_h h_t^{j-1} + b_h + r^j ∘ F_j);  z, r from h_t^{j-1} and h_{t-1}^j

    with c = f ∘ c + i ∘ c̃, h = o ∘ act(c), and h = z ∘ h + (1 - z) ∘ h̃ (z as in `GRUCell`).

    States: h of each layer, with kind "lstm" h and c of each: `[h1, c1, h2, c2, …]`. The output is
    the last layer's h. Weights: those of `FeedbackLayer`, layer by layer.
    """

    input_ndim = 2

    def __init__(
        self,
        units: Sequence[int],
        kind: str = "tanh",
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "sigmoid",
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        unit_forget_bias: bool = True,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if isinstance(units, int) or not units or any(u < 1 for u in units):
            raise ValueError(f"`units` has a positive integer for each layer, not {units!r}.")
        if kind not in KINDS:
            raise ValueError(f"`kind` is one of {', '.join(KINDS)}, not {kind!r}.")
        self.units = tuple(units)
        self.kind = kind
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.unit_forget_bias = unit_forget_bias
        self.layers = nn.ModuleList(FeedbackLayer(self, u) for u in self.units)

    @property
    def state_size(self) -> tuple[int, ...]:
        """The units of each layer, with kind "lstm" twice each."""
        return tuple(u for u in self.units for _ in range(self._states_per_layer))

    @property
    def state_names(self) -> tuple[str, ...]:
        """`h1`, `h2`, …, with kind "lstm" `h1`, `c1`, `h2`, …"""
        letters = "hc"[: self._states_per_layer]
        return tuple(f"{a}{number}" for number in range(1, len(self.units) + 1) for a in letters)

    @property
    def output_size(self) -> int:
        """The units of the last layer."""
        return self.units[-1]

    @property
    def _states_per_layer(self) -> int:
        return 2 if self.kind == "lstm" else 1

    def _layers(self) -> list[FeedbackLayer]:
        return [layer for layer in self.layers if isinstance(layer, FeedbackLayer)]

    def build(self, input_shape: Any) -> None:
        """Makes all layers' weights for inputs `(batch, D)`."""
        for layer, units in zip(self._layers(), self.units, strict=True):
            build_once(layer, input_shape, self.dtype)
            input_shape = (input_shape[0], units)
        self.built = True

    def call(self, inputs: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, States]:
        """One timestep: `(B, D)` and the states → output `(B, units[-1])`, new states."""
        per_layer = self._states_per_layer
        before = torch.cat(tuple(states[::per_layer]), dim=-1)
        x, new_states = inputs, []
        for number, layer in enumerate(self._layers()):
            own = tuple(states[number * per_layer : (number + 1) * per_layer])
            new = layer(x, own, before)
            new_states += new
            x = new[0]
        return x, tuple(new_states)

    def get_initial_output(self, states: States) -> Tensor:
        """What a layer puts out while every step so far was masked: the last layer's h₀."""
        return states[-self._states_per_layer]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "kind": self.kind,
            "activation": activations.serialize(self.activation),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": initializers.serialize(self.recurrent_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "unit_forget_bias": self.unit_forget_bias,
        }


class FeedbackLayer(Layer):
    """One layer j, of u units over inputs of width D; S is the units of all layers together.

    Weights: `kernel (D, G·u)`; `feedback_kernel (S, u)`, the U^{i→j} below one another; `bias
    (G·u,)`; `gate_kernel (D, L)` and `gate_recurrent_kernel (S, L)`, the vectors w^{i→j} and
    u^{i→j}; and, where there are gates, `recurrent_kernel (u, (G-1)·u)`. Gates in the order
    i, f, o, c̃ (lstm) or z, r, h̃ (gru): the candidate last.
    """

    kernel: nn.Parameter
    feedback_kernel: nn.Parameter
    recurrent_kernel: nn.Parameter
    bias: nn.Parameter
    gate_kernel: nn.Parameter
    gate_recurrent_kernel: nn.Parameter

    def __init__(self, cell: GatedFeedbackRNNCell, units: int) -> None:
        super().__init__()
        self.units, self.kind, self.all_units = units, cell.kind, cell.units
        self.activation: Activation = cell.activation
        self.recurrent_activation: Activation = cell.recurrent_activation
        self.initializers: tuple[Initialize, ...] = (
            cell.kernel_initializer,
            cell.recurrent_initializer,
            cell.bias_initializer,
        )
        self.unit_forget_bias = cell.unit_forget_bias

    def build(self, input_shape: Any) -> None:
        features, u, gates = input_shape[-1], self.units, KINDS[self.kind]
        everything, layers = sum(self.all_units), len(self.all_units)
        kernel, recurrent, bias = self.initializers
        self.add_weight("kernel", (features, gates * u), initializer=kernel)
        self.add_weight("feedback_kernel", (everything, u), initializer=recurrent)
        self.add_weight("bias", (gates * u,), initializer=bias)
        self.add_weight("gate_kernel", (features, layers), initializer=kernel)
        self.add_weight("gate_recurrent_kernel", (everything, layers), initializer=kernel)
        if gates > 1:
            self.add_weight("recurrent_kernel", (u, (gates - 1) * u), initializer=recurrent)
        if self.kind == "lstm" and self.unit_forget_bias:
            with torch.no_grad():
                self.bias[u : 2 * u] = 1
        self.built = True

    def call(self, x: Tensor, own: States, before: Tensor) -> States:
        """New states of the layer from `x (B, D)`, its own states and all h of the last step."""
        projected, feedback = x @ self.kernel + self.bias, self._feedback(x, before)
        if self.kind == "tanh":
            return (self.activation(projected + feedback),)
        sums, candidate = torch.split(projected, [self.gates_width, self.units], dim=-1)
        gates = torch.split(sums + own[0] @ self.recurrent_kernel, self.units, dim=-1)
        return self._gated(tuple(map(self.recurrent_activation, gates)), candidate, feedback, own)

    @property
    def gates_width(self) -> int:
        """The width of all gates but the candidate."""
        return (KINDS[self.kind] - 1) * self.units

    def _gated(
        self, gates: tuple[Tensor, ...], candidate: Tensor, feedback: Tensor, own: States
    ) -> States:
        if self.kind == "gru":
            z, r = gates
            return (z * own[0] + (1 - z) * self.activation(candidate + r * feedback),)
        i, f, o = gates
        c = f * own[1] + i * self.activation(candidate + feedback)
        return (o * self.activation(c), c)

    def _feedback(self, x: Tensor, before: Tensor) -> Tensor:
        """Σ_i g^{i→j} U^{i→j} h_{t-1}^i, `(B, u)`: one product, each h scaled by its gate first."""
        gates = torch.sigmoid(x @ self.gate_kernel + before @ self.gate_recurrent_kernel)
        scaled = [
            gates[:, i : i + 1] * h
            for i, h in enumerate(torch.split(before, list(self.all_units), dim=-1))
        ]
        return torch.cat(scaled, dim=-1) @ self.feedback_kernel
