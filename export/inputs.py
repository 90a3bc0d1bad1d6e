"""What goes into a model: said by its owner or by itself, and random values for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

import models
from export.carrier import MASK
from export.errors import ExportError
from export.signature import BATCH, DTYPES, TIME, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Inputs = Mapping[str, models.Input]

_MASKED = 0.25  # of the timesteps, where a Masking looks for a value
_COUNTS = 0.8  # of the timesteps under a random mask


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """How random values of an input are drawn: numbers of the scale that the model is used to,
    symbols that it knows, and now and then a timestep that a Masking leaves out.
    """

    low: float | None = None
    high: float | None = None
    symbols: int = 2
    mean: Any = 0.0
    std: Any = 1.0
    mask_value: float | None = None

    def values(
        self, tensor: Tensor, shape: tuple[int, ...], rng: np.random.Generator
    ) -> NDArray[Any]:
        """`shape` is without the batch axis."""
        if tensor.dtype == "bool":
            return rng.random(shape) < _COUNTS
        if np.issubdtype(tensor.dtype, np.integer):
            low, high = self.low or 0, self.symbols if self.high is None else self.high
            return rng.integers(int(low), int(high), shape).astype(tensor.dtype)
        drawn: NDArray[Any] = self.mean + self.std * rng.standard_normal(shape)
        if self.low is not None or self.high is not None:
            drawn = _between(self.low, self.high, rng.random(shape))
        if self.mask_value is not None and len(shape) > 1:
            drawn[rng.random(shape[0]) < _MASKED] = self.mask_value
        return drawn.astype(tensor.dtype)


def inputs_of(model: nn.Module, given: Inputs | None, *, mask: bool) -> dict[str, models.Input]:
    """The inputs by name, `mask` last if it is wanted. Raises ExportError."""
    if given is not None and not isinstance(given, Mapping):
        raise ExportError(f"inputs is {given!r}: expected a dict from names to models.Input")
    inputs = dict(_own(model) if given is None else given)
    for name, each in inputs.items():
        if not isinstance(each, models.Input):
            raise ExportError(
                f"input {name!r} is {each!r}: expected a models.Input, as in "
                f'inputs={{"{name}": models.Input((None, None, 12))}}'
            )
        if each.dtype not in DTYPES:
            raise ExportError(
                f"input {name!r} has dtype {each.dtype!r}: expected one of {', '.join(DTYPES)}"
            )
    if mask:
        _check_maskable(model, inputs)
        inputs[MASK] = models.Input((None, None), "bool")
    return inputs


def zeros(inputs: Inputs, batch: int, time: int) -> dict[str, torch.Tensor]:
    """An example of each input; masks are true."""
    return {
        name: torch.full(
            each.sized(batch, time), each.dtype == "bool", dtype=getattr(torch, each.dtype)
        )
        for name, each in inputs.items()
    }


def described(name: str, each: models.Input) -> Tensor:
    """The input as the graph has it."""
    return Tensor(
        name,
        each.dtype,
        tuple(_symbolic(axis, size) for axis, size in enumerate(each.shape)),
        1 if each.time else None,
        constant=each.constant,
        optional=name == MASK and each.dtype == "bool" and each.time,
    )


def draws_of(model: nn.Module, inputs: Inputs) -> dict[str, Draw]:
    """How each input is drawn."""
    mask_value = next((m.mask_value for m in model.modules() if type(m) is models.Masking), None)
    mean, std = _statistics(model)
    symbols = min(_tables(model), default=2)
    return {
        name: Draw(each.low, each.high, symbols, mean, std, mask_value)
        for name, each in inputs.items()
    }


def _between(low: float | None, high: float | None, share: NDArray[Any]) -> NDArray[Any]:
    """One unit wide where only one end is said."""
    low = high - 1 if low is None and high is not None else low or 0.0
    return low + share * ((low + 1 if high is None else high) - low)


def _own(model: nn.Module) -> Inputs:
    """Those that the model itself says, or that it was built for."""
    said: Inputs | None = getattr(model, "inputs", None)
    if isinstance(said, dict):
        return said
    if isinstance(model, models.Sequential) and model.input_shape is not None:
        symbols = isinstance(model.layers[0], models.Embedding)
        shape = (None, *model.input_shape[1:])
        return {model.input_name: models.Input(shape, "int64" if symbols else "float32")}
    if isinstance(model, models.RNN) and model._input_shape is not None:
        return {"frames": models.Input((None, *model._input_shape[1:]))}
    raise ExportError(
        f"what {type(model).__name__} takes is not known: name its inputs, as in "
        'inputs={"frames": models.Input((None, None, 12))}'
    )


def _check_maskable(model: nn.Module, inputs: Inputs) -> None:
    if not isinstance(model, (models.Sequential, models.RNN)):
        raise ExportError(
            f"mask=True is for a Sequential or a recurrent layer; {type(model).__name__} takes a "
            "mask if one of its inputs is one"
        )
    if MASK in inputs:
        raise ExportError(f"an input of the model is called {MASK!r} already: rename it")
    if not any(each.time for each in inputs.values()):
        raise ExportError("mask=True: no input of the model counts timesteps")
    for layer in model.layers if isinstance(model, models.Sequential) else [model]:
        if isinstance(layer, models.RNN):
            return
        if isinstance(layer, (models.Masking, models.Embedding)):
            raise ExportError(
                f"mask=True: {layer.name} makes a mask of its own, or drops the one that comes in, "
                "as in Keras: export without it"
            )
    raise ExportError("mask=True: the model has no recurrent layer, which alone obeys a mask")


def _symbolic(axis: int, size: int | None) -> int | str:
    return size if size is not None else (TIME if axis else BATCH)


def _statistics(model: nn.Module) -> tuple[Any, Any]:
    """Mean and deviation of the data, where the model begins by taking them out."""
    first = model.layers[0] if isinstance(model, models.Sequential) else None
    if type(first) is not models.Normalization:
        return 0.0, 1.0
    return first.mean.detach().cpu().numpy(), first.std.detach().cpu().numpy()


def _tables(model: nn.Module) -> Iterator[int]:
    """How many symbols each embedding knows."""
    for module in model.modules():
        if isinstance(module, models.Embedding):
            yield module.input_dim
        elif isinstance(module, nn.Embedding):
            yield module.num_embeddings
