"""Keras' `implementation`: how a gated cell takes its products, and how many dropout masks."""

from __future__ import annotations

import warnings


def checked(implementation: int) -> int:
    """1 (a mask per gate) or 2 (one mask for all).

    0 is Keras 1's and means 1, with a warning; ValueError for anything else.
    """
    if implementation == 0:
        warnings.warn(
            "`implementation=0` has been deprecated, and now defaults to `implementation=1`."
            "Please update your layer call.",
            stacklevel=3,
        )
        return 1
    if implementation not in (1, 2):
        raise ValueError(f"`implementation` is 1 or 2, not {implementation!r}.")
    return implementation
