"""Activation functions, by Keras' names.

Every function is elementwise and keeps shape and dtype, except `softmax`, which normalises the
last axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Activation: TypeAlias = Callable[[Tensor], Tensor]
ActivationLike: TypeAlias = str | Activation | None


def linear(x: Tensor) -> Tensor:
    """`x` itself."""
    return x


def hard_sigmoid(x: Tensor) -> Tensor:
    """`clip(0.2 x + 0.5, 0, 1)`: Keras 2's slope."""
    return torch.rsub(x, 0.5, alpha=-0.2).clamp(0.0, 1.0)  # 0.5 + 0.2 x as one operation


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis."""
    return torch.softmax(x, dim=-1)


NAMED: dict[str, Activation] = {
    "elu": functional.elu,
    "exponential": torch.exp,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid_keras3": functional.hardsigmoid,  # clip(x / 6 + 0.5, 0, 1)
    "linear": linear,
    "relu": torch.relu,
    "selu": torch.selu,
    "sigmoid": torch.sigmoid,
    "softmax": softmax,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "tanh": torch.tanh,
}


def get(identifier: ActivationLike) -> Activation:
    """The function that `identifier` (a name, a callable, or None for linear) stands for.

    Raises ValueError for an unknown name.
    """
    if identifier is None:
        return linear
    if callable(identifier):
        return identifier
    if identifier not in NAMED:
        raise ValueError(
            f"Unknown activation function: {identifier}. Known are {', '.join(NAMED)}, "
            "or pass a callable."
        )
    return NAMED[identifier]


def serialize(activation: Activation) -> str | Activation:
    """The name of `activation`; a function that has none stands for itself.

    With such a function the config of a layer is good for a copy, but not for a file.
    """
    return next((name for name, known in NAMED.items() if known is activation), activation)
