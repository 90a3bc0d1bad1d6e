"""Weight initialisers, by Keras' names and defaults.

An initialiser maps a shape to a new float tensor of torch's default dtype, on the CPU. It acts on
the whole matrix it is asked for: the kernels of a gated layer come as one `(D, G·u)` matrix, and
that is what the fans, the orthogonality and the repeated identity refer to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from models.identifiers import Family
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
    from collections.abc import Callable, Mapping

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
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "serialize",
]

Initialize: TypeAlias = "Callable[[Shape], Tensor]"
InitializerLike: TypeAlias = "str | Mapping[str, Any] | Initialize"


def glorot_uniform(seed: int | None = None) -> Initializer:
    """Uniform within `sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010)."""
    return VarianceScaling(1.0, "fan_avg", "uniform", seed)


def glorot_normal(seed: int | None = None) -> Initializer:
    """Truncated normal of variance `2 / (fan_in + fan_out)` (Glorot and Bengio 2010)."""
    return VarianceScaling(1.0, "fan_avg", "normal", seed)


def he_uniform(seed: int | None = None) -> Initializer:
    """Uniform within `sqrt(6 / fan_in)` (He et al. 2015)."""
    return VarianceScaling(2.0, "fan_in", "uniform", seed)


def he_normal(seed: int | None = None) -> Initializer:
    """Truncated normal of variance `2 / fan_in` (He et al. 2015)."""
    return VarianceScaling(2.0, "fan_in", "normal", seed)


def lecun_uniform(seed: int | None = None) -> Initializer:
    """Uniform within `sqrt(3 / fan_in)` (LeCun et al. 1998)."""
    return VarianceScaling(1.0, "fan_in", "uniform", seed)


def lecun_normal(seed: int | None = None) -> Initializer:
    """Truncated normal of variance `1 / fan_in` (LeCun et al. 1998)."""
    return VarianceScaling(1.0, "fan_in", "normal", seed)


NAMED: dict[str, Callable[[], Initializer]] = {
    "constant": Constant,
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "identity": Identity,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "normal": RandomNormal,
    "one": Ones,
    "ones": Ones,
    "orthogonal": Orthogonal,
    "random_normal": RandomNormal,
    "random_uniform": RandomUniform,
    "truncated_normal": TruncatedNormal,
    "uniform": RandomUniform,
    "zero": Zeros,
    "zeros": Zeros,
}

_FAMILY: Family[Initialize] = Family(
    "initializer",
    (
        Constant,
        Identity,
        Ones,
        Orthogonal,
        RandomNormal,
        RandomUniform,
        TruncatedNormal,
        VarianceScaling,
        Zeros,
    ),
    NAMED,
)
get, serialize = _FAMILY.get, _FAMILY.serialize
