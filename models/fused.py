"""Torch's fused kernels (cuDNN's on a GPU) for the cells whose equations are theirs.

They compute all timesteps in one call. Which cells have one is decided by exact type and options:

| cell                     | activations   | further                          |
|--------------------------|---------------|----------------------------------|
| SimpleRNNCell            | tanh or relu  |                                  |
| LSTMCell, CuDNNLSTMCell  | sigmoid, tanh |                                  |
| GRUCell, CuDNNGRUCell    | sigmoid, tanh | reset_after=True                 |
| all                      |               | no dropout that acts             |

and masks, if there are any, only pad on the right: the padding is packed away. Everything else
takes the loop of `models.loop`, with the same results.

torch's weights are Keras' transposed; its gates are i, f, g, o (as in Keras) and r, z, n.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.cells import CuDNNGRUCell, CuDNNLSTMCell, GRUCell, LSTMCell, SimpleRNNCell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.cells import Cell, States

Kernel: TypeAlias = Callable[..., tuple[Tensor, ...]]

_PLAIN: dict[Any, Kernel] = {torch.tanh: torch.rnn_tanh, torch.relu: torch.rnn_relu}


def kernel_of(cell: Any, training: bool) -> Kernel | None:
    """The kernel that computes `cell`, or None. A subclass may compute anything, and has none."""
    kind = type(cell)
    if kind is SimpleRNNCell and not cell.drops(training):
        return _PLAIN.get(cell.activation)
    if kind not in _GATED or cell.drops(training):
        return None
    if cell.activation is not torch.tanh or cell.recurrent_activation is not torch.sigmoid:
        return None
    return _GATED[kind] if kind in (LSTMCell, CuDNNLSTMCell) or cell.reset_after else None


_GATED: dict[type, Kernel] = {
    LSTMCell: torch.lstm,
    CuDNNLSTMCell: torch.lstm,
    GRUCell: torch.gru,
    CuDNNGRUCell: torch.gru,
}


def run(
    kernel: Kernel,
    cell: Cell,
    inputs: Tensor,
    states: States,
    mask: Tensor | None,
    before: Tensor | None,
) -> tuple[Tensor, States] | None:
    """Outputs `(B, T, u)` and final states; None where the mask is not padding on the right.

    `before` is the output of a row that is all padding; None means zeros.
    """
    if mask is None:
        return _run_whole(kernel, cell, inputs, states)
    lengths = _lengths(mask)
    if lengths is None:
        return None
    before = torch.zeros_like(states[0]) if before is None else before
    return _run_packed(kernel, cell, inputs, states, lengths, before)


def _run_whole(kernel: Kernel, cell: Cell, inputs: Tensor, states: States) -> tuple[Tensor, States]:
    output, *final = _call(kernel, cell, inputs, _hidden(states), batch_first=True)
    return output, tuple(state[0] for state in final)


def _run_packed(
    kernel: Kernel, cell: Cell, inputs: Tensor, states: States, lengths: Tensor, before: Tensor
) -> tuple[Tensor, States]:
    """Packing needs a timestep of each row: one without any computes one, which is put back."""
    empty = (lengths == 0)[:, None]
    packed = pack_padded_sequence(
        inputs, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
    )
    order, back = packed.sorted_indices, packed.unsorted_indices
    hidden = _hidden(tuple(state[order] for state in states))
    data, *final = _call(kernel, cell, packed.data, hidden, packed.batch_sizes)
    output, _ = pad_packed_sequence(
        PackedSequence(data, packed.batch_sizes, order, back),
        batch_first=True,
        total_length=inputs.shape[1],
    )
    times = torch.arange(inputs.shape[1], device=inputs.device)
    last = times.minimum((lengths - 1).clamp(min=0)[:, None])
    output = output.gather(1, last[..., None].expand_as(output))  # padding repeats the last output
    output = torch.where(empty[..., None], before[:, None], output)
    return output, tuple(
        torch.where(empty, old, new[0][back]) for old, new in zip(states, final, strict=True)
    )


def _call(
    kernel: Kernel,
    cell: Cell,
    inputs: Tensor,
    hidden: Any,
    batch_sizes: Tensor | None = None,
    batch_first: bool = False,
) -> tuple[Tensor, ...]:
    """The kernel, one layer in one direction, ready for a backward pass where there may be one."""
    train = torch.is_grad_enabled()
    options = (_weights(cell), True, 1, 0.0, train, False)  # biases, layers, dropout, …, directions
    with _quiet_cudnn() if inputs.is_cuda else nullcontext():
        if batch_sizes is None:
            return kernel(inputs, hidden, *options, batch_first)
        return kernel(inputs, batch_sizes, hidden, *options)


@contextmanager
def _quiet_cudnn() -> Iterator[None]:
    """cuDNN asks for all weights in one chunk of memory; ours are the user's, and are copied."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single")
        yield


def _lengths(mask: Tensor) -> Tensor | None:
    """The number of timesteps of each row; None unless all that are masked come last.

    Looks at the mask's values, which a graph that is being compiled does not have. And an empty
    batch cannot be packed.
    """
    if torch.compiler.is_compiling() or mask.is_meta or not len(mask):
        return None
    mask = mask.bool()
    padded_right = bool((mask[:, 1:] <= mask[:, :-1]).all())
    return mask.sum(dim=1) if padded_right else None


def _hidden(states: States) -> Any:
    """A layer axis in front; a tuple of h and c for an LSTM, h alone for the others."""
    hidden = tuple(state.unsqueeze(0).contiguous() for state in states)
    return hidden if len(hidden) == 2 else hidden[0]


def _weights(cell: Cell) -> list[Tensor]:
    """w_ih, w_hh, b_ih, b_hh as torch has them, views of the cell's own where possible."""
    kernel, recurrent_kernel = cell.kernels()
    bias, zeros = cell.input_bias(), kernel.new_zeros(kernel.shape[-1])
    recurrent_bias = cell.recurrent_bias() if isinstance(cell, GRUCell) else None
    weights = [
        kernel.T,
        recurrent_kernel.T,
        zeros if bias is None else bias,
        zeros if recurrent_bias is None else recurrent_bias,
    ]
    return [_r_z_n(w) for w in weights] if isinstance(cell, GRUCell) else weights


def _r_z_n(weight: Tensor) -> Tensor:
    """Gates z, r, h along the first axis in torch's order."""
    z, r, h = weight.chunk(3)
    return torch.cat([r, z, h])
