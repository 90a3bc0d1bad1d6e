"""Layers by the name of their class: how a config becomes a layer again."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLASSES: dict[str, type[Any]] = {}
_L = TypeVar("_L", bound=type[Any])


def register(cls: _L) -> _L:
    """Class decorator: lets `deserialize` find the class by its name."""
    _CLASSES[cls.__name__] = cls
    return cls


def serialize(layer: Any) -> dict[str, Any]:
    """`{"class_name": …, "config": …}`, from which `deserialize` makes an equal layer."""
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def deserialize(
    config: Mapping[str, Any], custom_objects: Mapping[str, type[Any]] | None = None
) -> Any:
    """The layer of a config made by `serialize`, or by Keras' own.

    Raises ValueError for a class that is neither registered nor among `custom_objects`.
    """
    name = config["class_name"]
    classes = {**_CLASSES, **(custom_objects or {})}
    if name not in classes:
        raise ValueError(
            f"Unknown layer: {name}. Known are {', '.join(sorted(classes))}; "
            "a class of your own needs the decorator `models.register`."
        )
    from_config = classes[name].from_config
    takes = "custom_objects" in inspect.signature(from_config).parameters
    extra = {"custom_objects": custom_objects} if takes and custom_objects else {}
    return from_config(dict(config["config"]), **extra)


def snake_case(name: str) -> str:
    """`SimpleRNN` → `simple_rnn`, `LSTM` → `lstm`, `Conv2D` → `conv2d`."""
    split = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", split).lower()
