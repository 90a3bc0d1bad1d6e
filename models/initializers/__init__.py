"""Weight initialisers, by Keras' names and defaults.

An initialiser maps a shape to a new float tensor of torch's default dtype, on the CPU. It acts on
the whole matrix it is asked for: the kernels of a gated layer come as one `(D, G·u)` matrix, and
that is what the fans, the orthogonality and the repeated identity refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from models.initializers.base import Initializer
from models.initializers.fixed import Constant, Identity, Ones, Zeros
from models.initializers.random import (
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    fans,
)

if TYPE_CHECKING:
    from torch import Tensor

    from models.initializers.base import Shape

__all__ = [
    "Constant",
    "Identity",
    "Initializer",
    "InitializerLike",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "fans",
    "get",
    "serialize",
]

InitializerLike: TypeAlias = "str | Mapping[str, Any] | Callable[[Shape], Tensor]"

CLASSES: dict[str, type[Initializer]] = {
    cls.__name__: cls
    for cls in (
        Constant,
        Identity,
        Ones,
        Orthogonal,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        VarianceScaling,
        Zeros,
    )
}

NAMED: dict[str, Callable[[], Initializer]] = {
    "constant": Constant,
    "glorot_normal": lambda: VarianceScaling(1.0, "fan_avg", "normal"),
    "glorot_uniform": lambda: VarianceScaling(1.0, "fan_avg", "uniform"),
    "he_normal": lambda: VarianceScaling(2.0, "fan_in", "normal"),
    "he_uniform": lambda: VarianceScaling(2.0, "fan_in", "uniform"),
    "identity": Identity,
    "lecun_normal": lambda: VarianceScaling(1.0, "fan_in", "normal"),
    "lecun_uniform": lambda: VarianceScaling(1.0, "fan_in", "uniform"),
    "normal": RandomNormal,
    "ones": Ones,
    "orthogonal": Orthogonal,
    "random_normal": RandomNormal,
    "random_uniform": RandomUniform,
    "truncated_normal": TruncatedNormal,
    "uniform": RandomUniform,
    "zeros": Zeros,
}


def get(identifier: InitializerLike) -> Callable[[Shape], Tensor]:
    """The initialiser that a name, a config or a callable stands for.

    A config is `{"class_name": …, "config": {…}}`, what `serialize` gives. Raises ValueError for an
    unknown name or class.
    """
    if isinstance(identifier, Mapping):
        name = identifier["class_name"]
        if name not in CLASSES:
            raise ValueError(f"Unknown initializer: {name}. Known are {', '.join(CLASSES)}.")
        return CLASSES[name](**identifier["config"])
    if callable(identifier):
        return identifier
    if identifier not in NAMED:
        raise ValueError(
            f"Unknown initializer: {identifier}. Known are {', '.join(NAMED)}, or pass a callable."
        )
    return NAMED[identifier]()


def serialize(initializer: Callable[[Shape], Tensor]) -> dict[str, Any]:
    """A config for `get`; ValueError for a callable that is not an `Initializer`."""
    if not isinstance(initializer, Initializer):
        raise ValueError(
            f"{initializer!r} is not an Initializer, so no config can hold it. "
            f"Use one of {', '.join(NAMED)}."
        )
    return {"class_name": type(initializer).__name__, "config": initializer.get_config()}
