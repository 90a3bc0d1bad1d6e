"""Embedding: a vector for each of a number of symbols, learnt like any weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional

from models import initializers
from models.layer import Layer
from models.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.initializers import Initialize, InitializerLike
    from models.options import BatchShape


@register
class Embedding(Layer):
    """Symbols `(B, T)`, or of any shape, of 0 to `input_dim` - 1 → `(B, T, output_dim)`.

    Weights: `embeddings (input_dim, output_dim)`. With `mask_zero` the symbol 0 is padding:
    `compute_mask` is false there.
    """

    embeddings_initializer: Initialize
    embeddings: nn.Parameter

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: InitializerLike = "uniform",
        mask_zero: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.mask_zero = mask_zero

    def build(self, input_shape: BatchShape) -> None:
        """Of `input_shape` nothing is needed."""
        self.add_weight(
            "embeddings",
            (self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
        )

    def call(self, inputs: Tensor) -> Tensor:
        """The rows of `embeddings` at `inputs`, whole numbers of any dtype.

        Raises IndexError for symbols out of range.
        """
        return functional.embedding(inputs.long(), self.embeddings)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """True where `inputs` are not 0, with `mask_zero`; else None, as in Keras."""
        return inputs != 0 if self.mask_zero else None

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
            "mask_zero": self.mask_zero,
        }
