"""Masking: says which timesteps count, by a value that marks those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from models.layer import Layer
from models.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from models.options import LayerOptions


@register
class Masking(Layer):
    """A timestep all of whose features are `mask_value` does not count.

    `compute_mask(inputs)` is `(B, T)`, false there; the output has zeros there. A `Sequential`
    hands the mask on to its recurrent layers; elsewhere: `layer(masking(x), mask=masking.
    compute_mask(x))`.
    """

    mask_value: float

    def __init__(self, mask_value: float = 0.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.mask_value = mask_value

    def call(self, inputs: Tensor) -> Tensor:
        """`(B, T, D)` with zeros where a timestep does not count."""
        return inputs * (inputs != self.mask_value).any(dim=-1, keepdim=True)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """True where a timestep of `inputs (B, T, D)` counts; `mask` is replaced, as in Keras."""
        return (inputs != self.mask_value).any(dim=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mask_value": self.mask_value}
