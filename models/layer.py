"""What every layer shares: lazy weights, Keras' weight lists, configs, names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from models import initializers

if TYPE_CHECKING:
    import numpy as np

    from models.initializers import InitializerLike

BatchShape: TypeAlias = tuple[int | None, ...]
"""A shape with the batch axis first; None where the size is not known."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Layer(nn.Module):
    """A module whose weights are made when the shape of its input is known.

    Subclasses write `build(input_shape)`, which makes the weights and sets `built`, and
    `call(inputs, …)`. Calling the layer builds it at need, on the device of its inputs.
    """

    built: bool

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(f"A layer name is snake case (a-z, 0-9, _), not {name!r}.")
        self.given_name = name
        self.built = False

    @property
    def name(self) -> str:
        """The given name, else the class name in snake case."""
        return self.given_name or snake_case(type(self).__name__)

    def build(self, input_shape: BatchShape) -> None:
        """Makes the weights for inputs of `input_shape`."""
        self.built = True

    def call(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the layer computes, with its weights in place."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes")

    def forward(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        self.ensure_built(inputs)
        return self.call(inputs, *args, **kwargs)

    def ensure_built(self, inputs: Tensor) -> None:
        """Builds for the shape and device of `inputs`, once."""
        if not self.built:
            with torch.inference_mode(False):  # or the weights could never be trained
                self.build(tuple(inputs.shape))
                self.built = True
                self.to(inputs.device)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the output for inputs of `input_shape`."""
        return input_shape

    def add_weight(
        self,
        name: str,
        shape: Sequence[int],
        initializer: InitializerLike = "glorot_uniform",
        trainable: bool = True,
    ) -> nn.Parameter:
        """A new parameter `self.<name>`, filled by `initializer`."""
        value = initializers.get(initializer)(tuple(shape))
        weight = nn.Parameter(value, requires_grad=trainable)
        self.register_parameter(name, weight)
        return weight

    @property
    def weights(self) -> list[Tensor]:
        """All weights, in Keras' order; empty before the layer is built."""
        return list(self.parameters())

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

    def get_config(self) -> dict[str, Any]:
        """JSON-able arguments that make an equal layer, without its weights."""
        return {"name": self.given_name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A new layer from what `get_config` gave."""
        return cls(**config)


_CLASSES: dict[str, type[Layer]] = {}
_L = TypeVar("_L", bound=type[Layer])


def register(cls: _L) -> _L:
    """Class decorator: lets `deserialize` find the class by its name."""
    _CLASSES[cls.__name__] = cls
    return cls


def serialize(layer: Layer) -> dict[str, Any]:
    """`{"class_name": …, "config": …}`, from which `deserialize` makes an equal layer."""
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def deserialize(config: Mapping[str, Any]) -> Layer:
    """The layer of a config made by `serialize`; ValueError for an unregistered class."""
    name = config["class_name"]
    if name not in _CLASSES:
        raise ValueError(
            f"Unknown layer: {name}. Known are {', '.join(sorted(_CLASSES))}; "
            "a class of your own needs the decorator `models.register`."
        )
    return _CLASSES[name].from_config(config["config"])


def snake_case(name: str) -> str:
    """`SimpleRNN` → `simple_rnn`, `LSTM` → `lstm`, `Conv2D` → `conv2d`."""
    split = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", split).lower()


Initialize: TypeAlias = Callable[[Sequence[int]], Tensor]
