"""Dense: one affine map and an activation, for every frame alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from models import activations, constraints, initializers, regularizers
from models.layer import Layer
from models.registry import register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.activations import Activation, ActivationLike
    from models.constraints import Constrain, ConstraintLike
    from models.initializers import Initialize, InitializerLike
    from models.options import BatchShape, LayerOptions
    from models.regularizers import Regularize, RegularizerLike


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
    kernel_regularizer: Regularize | None
    bias_regularizer: Regularize | None
    activity_regularizer: Regularize | None
    kernel_constraint: Constrain | None
    bias_constraint: Constrain | None
    kernel: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self,
        units: int,
        activation: ActivationLike = None,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape: BatchShape) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError("The last dimension of the inputs to `Dense` should be defined.")
        self.add_weight(
            "kernel",
            (features, self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias:
            self.add_weight(
                "bias",
                (self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
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
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }
