"""The keywords that every layer takes, and what they mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

BatchShape: TypeAlias = tuple[int | None, ...]
"""A shape with the batch axis first; None where the size is not known."""

NAME = re.compile(r"[A-Za-z0-9_-]+")


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


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"Unknown dtype: {dtype!r}. Use a torch dtype or a name like 'float32'.")
    return found


def full_shape(options: Mapping[str, Any]) -> BatchShape | None:
    """The shape that the keywords name, if any does."""
    if options.get("batch_input_shape") is not None:
        return tuple(options["batch_input_shape"])
    if options.get("input_shape") is not None:
        return (options.get("batch_size"), *options["input_shape"])
    if options.get("input_dim") is not None:
        return (options.get("batch_size"), options.get("input_length"), options["input_dim"])
    return None
