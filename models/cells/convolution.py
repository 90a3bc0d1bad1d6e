"""The convolutions of ConvLSTM2D: TensorFlow's arithmetic of padding, on torch's kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Pair: TypeAlias = tuple[int, int]


def pair(value: int | Sequence[int], name: str) -> Pair:
    """An int as two equal ones, or two ints as they are; ValueError for anything else."""
    values = (value, value) if isinstance(value, int) else tuple(value)
    if len(values) != 2 or not all(isinstance(v, int) and v > 0 for v in values):
        raise ValueError(
            f"The `{name}` argument must be a tuple of 2 positive integers. Received: {value!r}"
        )
    return values


def output_length(
    length: int | None, kernel: int, padding: str, stride: int = 1, dilation: int = 1
) -> int | None:
    """The length of a convolution's output along one axis; None for None.

    ValueError where a kernel without padding is longer than its input.
    """
    if length is None:
        return None
    if padding == "same":
        return -(-length // stride)
    extent = dilation * (kernel - 1) + 1
    if extent > length:
        raise ValueError(
            f"A kernel that covers {extent} elements needs as many inputs, there are {length}: "
            "use a smaller kernel_size or dilation_rate, or padding='same'."
        )
    return (length - extent) // stride + 1


def convolve(
    x: Tensor, kernel: Tensor, padding: str, strides: Pair = (1, 1), dilation: Pair = (1, 1)
) -> Tensor:
    """`x (N, rows, cols, C)` with `kernel (kh, kw, C, F)` → `(N, rows', cols', F)`."""
    x = x.permute(0, 3, 1, 2)
    if padding == "same":
        x = functional.pad(x, _same_padding(x, kernel, strides, dilation))
    y = functional.conv2d(x, kernel.permute(3, 2, 0, 1), stride=strides, dilation=dilation)
    return y.permute(0, 2, 3, 1)


def _same_padding(x: Tensor, kernel: Tensor, strides: Pair, dilation: Pair) -> list[int]:
    """TensorFlow's SAME of `(N, C, rows, cols)`, the smaller half first; columns before rows."""
    padding: list[int] = []
    for axis in (1, 0):
        length, extent = x.shape[2 + axis], dilation[axis] * (kernel.shape[axis] - 1) + 1
        steps = -(-length // strides[axis])
        total = max((steps - 1) * strides[axis] + extent - length, 0)
        padding += [total // 2, total - total // 2]
    return padding
