"""What every layer shares: lazy weights, Keras' weight lists and losses, configs, names."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from models import constraints, initializers, regularizers
from models.options import NAME, LayerOptions, as_dtype, full_shape
from models.registry import snake_case
from models.weights import array, free_name, ordered, renamed, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from models.constraints import Constrain, ConstraintLike
    from models.initializers import InitializerLike
    from models.regularizers import Regularize, RegularizerLike


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
        if name is not None and not NAME.fullmatch(name):
            raise ValueError(f"A layer name has letters, digits, '_' and '-' only, not {name!r}.")
        self.given_name = name
        self.dtype = as_dtype(options.get("dtype"))
        self.batch_input_shape = full_shape(options)
        self.built = False
        self.weight_constraints = {}
        self.weight_regularizers: dict[str, Regularize] = {}
        self._activity_losses: list[Tensor] = []
        self.never_trained: set[str] = set()
        self._trainable: bool = options.get("trainable", True)
        self.around_trainable = True  # whether all layers around this one are
        self._building = 0
        self._unnamed: set[int] = set()  # weights that no attribute has been given yet
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
        output = self.call(inputs, *args, **kwargs)
        self.penalise(output)
        return output

    def penalise(self, *outputs: Tensor) -> None:
        """Adds the penalties of what a call returns to `losses`, in place of the last call's."""
        penalty: Regularize | None = getattr(self, "activity_regularizer", None)
        self._activity_losses = [] if penalty is None else [penalty(output) for output in outputs]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = _finished(cls.build)  # type: ignore[method-assign]

    def ensure_built(self, inputs: Tensor, input_shape: Any = None) -> None:
        """Builds once: for `input_shape`, or the shape of `inputs`.

        On the device of `inputs`, and in their dtype unless the layer has one of its own.
        """
        if self.built:
            return
        with torch.inference_mode(False):  # or the weights could never be trained
            self.build(tuple(inputs.shape) if input_shape is None else input_shape)
            self.built = True
            own = self.dtype is None and inputs.is_floating_point()
            self.to(inputs.device, inputs.dtype if own else None)

    def _finish_build(self) -> None:
        """What every layer does once its weights are there."""
        self.built = True
        self._unnamed.clear()
        if not (self._trainable and self.around_trainable):
            spread(self, self.around_trainable)
        if self._initial_weights is not None:
            weights, self._initial_weights = self._initial_weights, None
            self.set_weights(weights)

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
        initializer: InitializerLike | None = None,
        regularizer: RegularizerLike = None,
        trainable: bool = True,
        constraint: ConstraintLike = None,
    ) -> nn.Parameter:
        """A new parameter `self.<name>`, filled by `initializer`, by default glorot_uniform.

        A name that is taken, or that torch cannot have, gets another; assigning the parameter to an
        attribute gives it that attribute's. `regularizer` adds a term to `losses`; `constraint` is
        applied by `constraints.apply`. A weight that is not `trainable` stays so when the layer's
        `trainable` is set.
        """
        value = torch.as_tensor(initializers.get(initializer or "glorot_uniform")(tuple(shape)))
        value = value.to(as_dtype(dtype) or self.dtype or torch.get_default_dtype())
        weight = nn.Parameter(value, requires_grad=trainable)
        name = free_name(self, name)
        self.register_parameter(name, weight)
        self._unnamed.add(id(weight))
        if not trainable:
            self.never_trained.add(name)
        regularize, constrain = regularizers.get(regularizer), constraints.get(constraint)
        if regularize is not None:
            self.weight_regularizers[name] = regularize
        if constrain is not None:
            self.weight_constraints[name] = constrain
        return weight

    def __setattr__(self, name: str, value: Any) -> None:
        """A weight that `build` gives to an attribute takes its name, the first of several."""
        if isinstance(value, nn.Parameter) and id(value) in self._unnamed:
            self._unnamed.remove(id(value))
            renamed(self, value, name)
        super().__setattr__(name, value)

    # Weights

    @property
    def trainable(self) -> bool:
        """Whether the optimiser may change the weights.

        It may change a weight if the layer that has it and all layers around that are trainable.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        spread(self, self.around_trainable)

    @property
    def trainable_weights(self) -> list[nn.Parameter]:
        """The weights that the optimiser may change, in Keras' order."""
        trained, _ = ordered(self)
        return [weight for weight in trained if weight.requires_grad]

    @property
    def non_trainable_weights(self) -> list[nn.Parameter]:
        """The other weights, in Keras' order."""
        trained, others = ordered(self)
        return [weight for weight in trained if not weight.requires_grad] + others

    @property
    def weights(self) -> list[Tensor]:
        """All weights, those that are trained first; empty before the layer is built."""
        trained, others = ordered(self)
        return [*trained, *others]

    def get_weights(self) -> list[np.ndarray[Any, Any]]:
        """Copies of the weights."""
        return [array(weight) for weight in self.weights]

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
            for name, regularize in layer.weight_regularizers.items()
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
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, type[Any]] | None = None
    ) -> Self:
        """A new layer from what `get_config` gave, here or in Keras.

        `custom_objects` are classes by name, for layers inside whose class is not registered.
        """
        return cls(**config)


def _finished(build: Callable[..., None]) -> Callable[..., None]:
    """`build`, and behind the outermost one what every layer does then."""

    @functools.wraps(build)
    def wrapper(self: Layer, *args: Any, **kwargs: Any) -> None:
        self._building += 1
        try:
            build(self, *args, **kwargs)
        finally:
            self._building -= 1
        if not self._building:
            self._finish_build()

    return wrapper
