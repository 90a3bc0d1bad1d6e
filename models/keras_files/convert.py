"""From one layout of a layer's weights to another: Keras' plain layers and those of cuDNN.

A gate's kernel `(D, u)` in a CuDNNLSTM or CuDNNGRU is no matrix to multiply with: Keras hands its
numbers to cuDNN one after the other, as they lie in memory, and cuDNN reads them
as a matrix `(u, D)` that stands to the left of the input. So the plain kernel is

    kernel_gate.reshape(u, D).T        recurrent_kernel_gate.T

gate by gate (Keras 2.2.4, `_canonical_to_params` of its cudnn_recurrent.py and
`_convert_rnn_weights` of its engine/saving.py). The order of the gates is the same.

cuDNN has two biases, the input's and the recurrent side's, one after the other. An LSTM only needs
their sum. A GRU needs both, as `GRU(reset_after=True)` does, in its rows. `GRU(reset_after=False)`
computes something else, which no weights can bring about.

CuDNNLSTM and CuDNNGRU hold their kernels here as they do in Keras.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from models.keras_files.errors import KerasFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.keras_files.saved import Array


class Layout(Enum):
    """How `[kernel (D, G·u), recurrent_kernel (u, G·u), bias]` are laid out, by layer class."""

    LSTM = "LSTM"
    CUDNN_LSTM = "CuDNNLSTM"
    GRU = "GRU(reset_after=False)"
    GRU_RESET_AFTER = "GRU(reset_after=True)"
    CUDNN_GRU = "CuDNNGRU"

    @property
    def gates(self) -> int:
        """Side by side along the last axis."""
        return 4 if self in LSTMS else 3

    @property
    def raw(self) -> bool:
        """Whether kernels lie as cuDNN takes them."""
        return self in (Layout.CUDNN_LSTM, Layout.CUDNN_GRU)

    def bias_shape(self, units: int) -> tuple[int, ...]:
        """The shape of the bias of a layer with `units`."""
        if self in (Layout.LSTM, Layout.GRU):
            return (self.gates * units,)
        return (2, 3 * units) if self is Layout.GRU_RESET_AFTER else (2 * self.gates * units,)


LSTMS = (Layout.LSTM, Layout.CUDNN_LSTM)


def recognise(weights: Sequence[Array], gates: int) -> Layout | None:
    """The layout of `weights` of a layer with `gates`: the bias tells.

    None without a bias, or with one of another shape.
    """
    if len(weights) != 3:
        return None
    _, recurrent_kernel, bias = weights
    fits = (
        layout
        for layout in Layout
        if layout.gates == gates and layout.bias_shape(recurrent_kernel.shape[0]) == bias.shape
    )
    return next(fits, None)


def convert(weights: Sequence[Array], source: Layout, target: Layout) -> list[Array]:
    """The same function's weights in another layout; the arrays given are left alone.

    KerasFileError where there is no such conversion, or a bias has not the shape of `source`.
    """
    if source is target:
        return list(weights)
    _check(source, target)
    if len(weights) != 3:
        raise KerasFileError(
            f"{source.value} → {target.value} needs kernel, recurrent_kernel and bias, not "
            f"{len(weights)} arrays: the layers of cuDNN always have a bias."
        )
    kernel, recurrent_kernel, bias = weights
    units = recurrent_kernel.shape[0]
    if bias.shape != source.bias_shape(units):
        raise KerasFileError(
            f"A bias of {source.value} with {units} units has the shape "
            f"{source.bias_shape(units)}, not {bias.shape}."
        )
    if source.raw and not target.raw:
        kernel, recurrent_kernel = _kernels(kernel, recurrent_kernel, source.gates, _plain)
    elif target.raw and not source.raw:
        kernel, recurrent_kernel = _kernels(kernel, recurrent_kernel, source.gates, _raw)
    return [kernel, recurrent_kernel, _bias(bias, target, units)]


def _check(source: Layout, target: Layout) -> None:
    both = {source, target}
    if source.gates != target.gates:
        raise KerasFileError(f"The weights of {source.value} are none of {target.value}.")
    if Layout.GRU in both:
        raise KerasFileError(
            f"{source.value} → {target.value}: there is no such conversion. A GRU with "
            "reset_after=False applies the reset gate before the product with recurrent_kernel, "
            "all others after it."
        )


def _kernels(
    kernel: Array, recurrent_kernel: Array, gates: int, each: Callable[[Array], Array]
) -> tuple[Array, Array]:
    return _by_gate(kernel, gates, each), _by_gate(recurrent_kernel, gates, lambda k: k.T)


def _by_gate(kernel: Array, gates: int, each: Callable[[Array], Array]) -> Array:
    return np.concatenate([each(gate) for gate in np.split(kernel, gates, axis=1)], axis=1)


def _plain(kernel: Array) -> Array:
    features, units = kernel.shape
    return kernel.reshape(units, features).T


def _raw(kernel: Array) -> Array:
    return kernel.T.reshape(kernel.shape)


def _bias(bias: Array, target: Layout, units: int) -> Array:
    """Halves are summed for a plain LSTM; for cuDNN's, whose sum counts, each is half of it."""
    if target is Layout.LSTM:
        first, second = np.split(bias, 2)
        summed: Array = first + second
        return summed
    if target in LSTMS and bias.size == 4 * units:
        return np.tile(0.5 * bias, 2)
    return bias.reshape(target.bias_shape(units))
