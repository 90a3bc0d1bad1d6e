"""Weight initialisers, by Keras' names and defaults.

An initialiser maps a shape to a new float tensor of torch's default dtype, on the CPU. It acts on
the whole matrix it is asked for: the kernels of a gated layer come as one `(D, G·u)` matrix, and
that is what the fans, the orthogonality and the repeated identity refer to.

With `seed=None` the numbers come from torch's global generator (`torch.manual_seed`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

Shape: TypeAlias = Sequence[int]


class Initializer:
    """Base: `initializer(shape) -> Tensor`."""

    def __call__(self, shape: Shape) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not say how to fill a tensor")

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal initialiser."""
        return {}


InitializerLike: TypeAlias = "str | Mapping[str, Any] | Callable[[Shape], Tensor]"


@dataclass(frozen=True)
class Constant(Initializer):
    """Every element is `value`."""

    value: float = 0.0

    def __call__(self, shape: Shape) -> Tensor:
        return torch.full(tuple(shape), float(self.value))

    def get_config(self) -> dict[str, Any]:
        return asdict(self)


class Zeros(Initializer):
    """Every element is 0."""

    def __call__(self, shape: Shape) -> Tensor:
        return torch.zeros(tuple(shape))


class Ones(Initializer):
    """Every element is 1."""

    def __call__(self, shape: Shape) -> Tensor:
        return torch.ones(tuple(shape))


@dataclass(frozen=True)
class RandomUniform(Initializer):
    """Uniform over `[minval, maxval)`."""

    minval: float = -0.05
    maxval: float = 0.05
    seed: int | None = None

    def __call__(self, shape: Shape) -> Tensor:
        return torch.empty(tuple(shape)).uniform_(
            self.minval, self.maxval, generator=_generator(self.seed)
        )

    def get_config(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RandomNormal(Initializer):
    """Normal with `mean` and `stddev`."""

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def __call__(self, shape: Shape) -> Tensor:
        return torch.empty(tuple(shape)).normal_(
            self.mean, self.stddev, generator=_generator(self.seed)
        )

    def get_config(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal with `mean` and `stddev`, values beyond two deviations drawn again."""

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def __call__(self, shape: Shape) -> Tensor:
        return torch.nn.init.trunc_normal_(
            torch.empty(tuple(shape)),
            self.mean,
            self.stddev,
            self.mean - 2 * self.stddev,
            self.mean + 2 * self.stddev,
            generator=_generator(self.seed),
        )

    def get_config(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Variance `scale / fan`, where `mode` names the fan: fan_in, fan_out or fan_avg.

    `distribution` is "uniform" (limit `sqrt(3 scale / fan)`) or "normal" (truncated at two
    deviations, widened so that the variance is right after the truncation).
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "normal"
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"`scale` must be a positive float. Got: {self.scale}")
        if self.mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(
                f"Invalid `mode` argument: expected on of fan_in, fan_out, fan_avg, but got "
                f"{self.mode}"
            )
        if self.distribution not in ("normal", "uniform"):
            raise ValueError(
                "Invalid `distribution` argument: expected one of normal, uniform, but got "
                f"{self.distribution}"
            )

    def __call__(self, shape: Shape) -> Tensor:
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return RandomUniform(-limit, limit, self.seed)(shape)
        return TruncatedNormal(0.0, math.sqrt(variance) / _TRUNCATED_STDDEV, self.seed)(shape)

    def get_config(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """`gain` times an orthogonal matrix; `(…, cols)` is flattened to two axes first.

    A wide matrix `(u, G·u)` gets orthonormal rows: `U Uᵀ = gain² I`.
    """

    gain: float = 1.0
    seed: int | None = None

    def __call__(self, shape: Shape) -> Tensor:
        if len(shape) < 2:
            raise ValueError(f"An orthogonal tensor has at least 2 axes, not shape {tuple(shape)}.")
        flat = torch.empty(math.prod(shape[:-1]), shape[-1])
        torch.nn.init.orthogonal_(flat, self.gain, generator=_generator(self.seed))
        return flat.reshape(tuple(shape))

    def get_config(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Identity(Initializer):
    """`gain` times the identity, repeated along the longer side."""

    gain: float = 1.0

    def __call__(self, shape: Shape) -> Tensor:
        if len(shape) != 2:
            raise ValueError("Identity matrix initializer can only be used for 2D matrices.")
        short, long = min(shape), max(shape)
        if long % short != 0:
            raise ValueError("Long side should be multiple of short side.")
        rows, columns = shape
        return self.gain * torch.eye(short).repeat(rows // short, columns // short)

    def get_config(self) -> dict[str, Any]:
        return asdict(self)


# The standard deviation of a unit normal truncated to [-2, 2].
_TRUNCATED_STDDEV = 0.87962566103423978

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


def fans(shape: Shape) -> tuple[float, float]:
    """(fan_in, fan_out) of a weight with the channel axes last: `(…, in, out)`."""
    if len(shape) < 2:
        side = math.sqrt(math.prod(shape))
        return side, side
    receptive_field = math.prod(shape[:-2])
    return float(receptive_field * shape[-2]), float(receptive_field * shape[-1])


def _generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)
