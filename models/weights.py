"""The weights of layers within layers: their order, their names, and who may change them.

A layer is any module with the attributes that `models.layer.Layer` has for this: `trainable` (its
own flag), `around_trainable` (whether all layers around it are), `never_trained` (the names of its
weights that were made so).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np


def is_layer(module: Any) -> bool:
    """Whether a module is a layer; others just hold weights."""
    return hasattr(module, "never_trained")


def spread(module: Any, around: bool) -> None:
    """Sets `requires_grad` of all weights in `module`; `around`: whether what holds it trains."""
    trains = around
    if is_layer(module):
        module.around_trainable = around
        trains = around and bool(module.trainable)
    never = getattr(module, "never_trained", ())
    for name, weight in module.named_parameters(recurse=False):
        weight.requires_grad_(trains and name not in never)
    for child in module.children():
        spread(child, trains)


def ordered(module: Any) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights in Keras' order: those that are trained, and the others.

    Freezing a layer moves all of its weights to the others, in their order.
    """
    never = getattr(module, "never_trained", ())
    trained = [w for name, w in module.named_parameters(recurse=False) if name not in never]
    others = [w for name, w in module.named_parameters(recurse=False) if name in never]
    for child in module.children():
        of_child = ordered(child)
        trained += of_child[0]
        others += of_child[1]
    frozen = is_layer(module) and not module.trainable
    return ([], trained + others) if frozen else (trained, others)


def array(weight: Tensor) -> np.ndarray[Any, Any]:
    """A copy; numpy has no bfloat16."""
    weight = weight.detach().cpu()
    return (weight.float() if weight.dtype is torch.bfloat16 else weight).numpy().copy()


def free_name(layer: nn.Module, wished: str) -> str:
    """A name for a new weight: the wished one if torch can have it and it is free."""
    wished = (wished or "weight").replace(".", "_")
    names = (f"{wished}_{number}" if number else wished for number in itertools.count())
    return next(name for name in names if not hasattr(layer, name))


def renamed(layer: Any, weight: nn.Parameter, name: str) -> None:
    """Gives `weight` of `layer` another name, in its place; what went with it goes along."""
    old = next((key for key, own in layer._parameters.items() if own is weight), name)
    tables = (layer._parameters, layer.weight_regularizers, layer.weight_constraints)
    for table in tables:
        items = [(name if key == old else key, value) for key, value in table.items()]
        table.clear()
        table.update(items)
    layer.never_trained = {name if key == old else key for key in layer.never_trained}
