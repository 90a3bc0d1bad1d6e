"""What every layer shares: lazy weights, Keras' weight lists and losses, configs, names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypedDict

import torch
from torch import Tensor, nn

from models import constraints, initializers, regularizers
from models.registry import snake_case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from models.constraints import Constrain, ConstraintLike
    from models.initializers import InitializerLike
    from models.regularizers import Regularize, RegularizerLike

BatchShape: TypeAlias = tuple[int | None, ...]
"""A shape with the batch axis first; None where the size is not known."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")


class LayerOptions(TypedDict, total=False):
    """The keywords that every layer takes.

    - `name`: letters, digits, '_' and '-'; by default the class name in snake case.
    - `trainable`: False freezes all weights.
    - `dtype`: of the weights, a torch dtype or its name; by default torch's default dtype.
    - `batch_input_shape`, or `input_shape` (without the batch axis) with `batch_size`: the shape
      that the layer is for; `build()` without an argument takes it. Recurrent layers also take
      `input_dim` with `input_length`.
    - `weights`: arrays for `set_weights`, copied in as soon as the layer is built.
    """

    name: str | None
    trainable: bool
    dtype: torch.dtype | str | None
    input_shape: Sequence[int | None]
    batch_input_shape: Sequence[int | None]
    batch_size: int | None
    input_dim: int
    input_length: int | None
    weights: Sequence[np.ndarray[Any, Any] | Tensor]


class Layer(nn.Module):
    """A module whose weights are made when the shape of its input is known.

    Subclasses write `build(input_shape)`, which makes the weights with `add_weight` and sets
    `built`, and `call(inputs, …)`. Calling the layer builds it at need, on the device of its
    inputs.
    """

    built: bool
    weight_constraints: dict[str, Constrain]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        unknown = options.keys() - LayerOptions.__annotations__.keys()
        if unknown:
            raise TypeError("Keyword argument not understood:", *sorted(unknown))
        name = options.get("name")
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(f"A layer name has letters, digits, '_' and '-' only, not {name!r}.")
        self.given_name = name
        self.dtype = _dtype(options.get("dtype"))
        self.batch_input_shape = _batch_input_shape(options)
        self.built = False
        self.weight_constraints = {}
        self._weight_regularizers: dict[str, Regularize] = {}
        self._activity_losses: list[Tensor] = []
        self._never_trained: set[str] = set()
        self._trainable: bool = options.get("trainable", True)
        self._initial_weights = options.get("weights")

    @property
    def name(self) -> str:
        """The given name, else the class name in snake case."""
        return self.given_name or snake_case(type(self).__name__)

    # Building

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs of `input_shape`, the batch axis first."""
        self.built = True

    def call(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes, with its weights in place."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes")

    def forward(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        self.ensure_built(inputs)
        return self.call(inputs, *args, **kwargs)

    def ensure_built(self, inputs: Tensor, input_shape: Any = None) -> None:
        """Builds once: for `input_shape`, or the shape of `inputs`, on the device of `inputs`."""
        if self.built and self._initial_weights is None:
            return
        with torch.inference_mode(False):  # or the weights could never be trained
            if not self.built:
                self.build(tuple(inputs.shape) if input_shape is None else input_shape)
                self.built = True
                self.to(inputs.device)
            if self._initial_weights is not None:
                self.set_weights(self._initial_weights)
                self._initial_weights = None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output for inputs of `input_shape`."""
        return input_shape

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """The mask that goes with the output; by default the one that came with the inputs."""
        return mask

    def add_weight(
        self,
        name: str,
        shape: Sequence[int],
        dtype: torch.dtype | str | None = None,
        initializer: InitializerLike = "glorot_uniform",
        regularizer: RegularizerLike = None,
        trainable: bool = True,
        constraint: ConstraintLike = None,
    ) -> nn.Parameter:
        """A new parameter `self.<name>`, filled by `initializer`.

        `regularizer` adds a term to `losses`; `constraint` is applied by `constraints.apply`.
        A weight that is not `trainable` stays so when the layer's `trainable` is set.
        """
        value = torch.as_tensor(initializers.get(initializer)(tuple(shape)))
        value = value.to(_dtype(dtype) or self.dtype or torch.get_default_dtype())
        weight = nn.Parameter(value, requires_grad=trainable and self.trainable)
        self.register_parameter(name, weight)
        if not trainable:
            self._never_trained.add(name)
        regularize, constrain = regularizers.get(regularizer), constraints.get(constraint)
        if regularize is not None:
            self._weight_regularizers[name] = regularize
        if constrain is not None:
            self.weight_constraints[name] = constrain
        return weight

    # Weights

    @property
    def trainable(self) -> bool:
        """Whether the optimiser may change the weights; setting it goes for all layers inside."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        for module in self.modules():
            never = getattr(module, "_never_trained", ())
            for name, weight in module.named_parameters(recurse=False):
                weight.requires_grad_(value and name not in never)

    @property
    def trainable_weights(self) -> list[nn.Parameter]:
        """The weights that the optimiser may change, in Keras' order."""
        return [weight for weight in self.parameters() if weight.requires_grad]

    @property
    def non_trainable_weights(self) -> list[nn.Parameter]:
        """The other weights, in Keras' order."""
        return [weight for weight in self.parameters() if not weight.requires_grad]

    @property
    def weights(self) -> list[Tensor]:
        """All weights, those that are trained first; empty before the layer is built."""
        return [*self.trainable_weights, *self.non_trainable_weights]

    def get_weights(self) -> list[np.ndarray[Any, Any]]:
        """Copies of the weights."""
        return [weight.detach().cpu().numpy().copy() for weight in self.weights]

    def set_weights(self, weights: Sequence[np.ndarray[Any, Any] | Tensor]) -> None:
        """Copies `weights` (arrays in the order of `weights`) in; ValueError unless they fit."""
        own = self.weights
        if len(own) != len(weights):
            raise ValueError(
                f'You called `set_weights(weights)` on layer "{self.name}" with a weight list of '
                f"length {len(weights)}, but the layer was expecting {len(own)} weights."
            )
        values = [torch.as_tensor(value) for value in weights]
        for weight, value in zip(own, values, strict=True):
            if weight.shape != value.shape:
                raise ValueError(
                    f"Layer weight shape {tuple(weight.shape)} not compatible with provided "
                    f"weight shape {tuple(value.shape)}"
                )
        with torch.no_grad():
            for weight, value in zip(own, values, strict=True):
                weight.copy_(value)

    def count_params(self) -> int:
        """How many numbers the weights hold; RuntimeError before the layer is built."""
        if not self.built:
            raise RuntimeError(
                f"You tried to call `count_params` on {self.name}, but the layer isn't built. "
                f"You can build it manually via: `{self.name}.build(batch_input_shape)`."
            )
        return sum(weight.numel() for weight in self.weights)

    # Losses

    @property
    def losses(self) -> list[Tensor]:
        """The penalties of this layer and those inside: of the weights, then of the last outputs.

        Scalars with gradients; add them to the loss that is minimised.
        """
        layers = [module for module in self.modules() if isinstance(module, Layer)]
        of_weights = [
            regularize(getattr(layer, name))
            for layer in layers
            for name, regularize in layer._weight_regularizers.items()
        ]
        return of_weights + [loss for layer in layers for loss in layer._activity_losses]

    def __getstate__(self) -> dict[str, Any]:
        """Without the last outputs' penalties: a copy has not been called yet."""
        return {**self.__dict__, "_activity_losses": []}

    # Configs

    def get_config(self) -> dict[str, Any]:
        """Arguments that make an equal layer, without its weights.

        JSON can hold them, unless a callable of one's own is among them.
        """
        config: dict[str, Any] = {"name": self.given_name, "trainable": self.trainable}
        if self.batch_input_shape is not None:
            config["batch_input_shape"] = self.batch_input_shape
        if self.dtype is not None:
            config["dtype"] = str(self.dtype).removeprefix("torch.")
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A new layer from what `get_config` gave, here or in Keras."""
        return cls(**config)


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"Unknown dtype: {dtype!r}. Use a torch dtype or a name like 'float32'.")
    return found


def _batch_input_shape(options: Mapping[str, Any]) -> BatchShape | None:
    """The shape that the keywords name, if any does."""
    if options.get("batch_input_shape") is not None:
        return tuple(options["batch_input_shape"])
    if options.get("input_shape") is not None:
        return (options.get("batch_size"), *options["input_shape"])
    if options.get("input_dim") is not None:
        return (options.get("batch_size"), options.get("input_length"), options["input_dim"])
    return None
