"""Dense: one affine map and an activation, for every frame alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models import activations, initializers
from models.layer import BatchShape, Initialize, Layer, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.activations import Activation, ActivationLike
    from models.initializers import InitializerLike


@register
class Dense(Layer):
    """`activation(x · kernel + bias)` over the last axis; all leading axes are kept.

    Weights: `kernel (D, units)`, `bias (units,)`.
    """

    units: int
    activation: Activation
    use_bias: bool
    kernel_initializer: Initialize
    bias_initializer: Initialize
    kernel: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self,
        units: int,
        activation: ActivationLike = None,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def build(self, input_shape: BatchShape) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError("The last dimension of the inputs to `Dense` should be defined.")
        self.add_weight("kernel", (features, self.units), self.kernel_initializer)
        if self.use_bias:
            self.add_weight("bias", (self.units,), self.bias_initializer)
        self.built = True

    def logits(self, inputs: Tensor) -> Tensor:
        """The affine part: `(…, D) → (…, units)`, before the activation."""
        projected = inputs @ self.kernel
        return projected + self.bias if self.use_bias else projected

    def call(self, inputs: Tensor) -> Tensor:
        return self.activation(self.logits(inputs))

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }
