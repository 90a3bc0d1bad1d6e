"""The random numbers of a case: from its name, so that they never change.

Runs in Keras' environment (Python 3.7).
"""

from __future__ import annotations

import zlib

import numpy as np

UNBOUNDED = ("relu", "elu", "selu", "linear", "softplus")


class Chance:
    """A stream of numbers."""

    def __init__(self, name):
        self.random = np.random.RandomState(zlib.crc32(name.encode()))

    def normal(self, *shape, scale=1.0):
        """Of mean 0 and deviation `scale`."""
        return rounded(scale * self.random.standard_normal(shape))

    def mask(self, kind, batch, time):
        """A mask `(batch, time)` of one of the kinds that `oracle.py` lists."""
        if kind is None:
            return None
        if kind == "right":
            return np.arange(time) < self.random.randint(1, time + 1, (batch, 1))
        mask = self.random.rand(batch, time) < 0.6
        if kind == "first":
            mask[:, 0] = False
        if kind == "rows":
            mask[0] = False
        return mask

    def dropout(self, shape, rate):
        """Zeros with probability `rate`, else `1 / (1 - rate)`."""
        return rounded((self.random.rand(*shape) >= rate) / (1 - rate))


def weight_scale(described):
    """How great weights should be for a layer that neither saturates nor explodes."""
    text = str(described)
    if "'exponential'" in text:
        return 0.1
    return 0.25 if any(f"'{name}'" in text for name in UNBOUNDED) else 0.6


def rounded(array):
    """As float64, but to numbers that float32 holds."""
    return array.astype("float32").astype("float64")
