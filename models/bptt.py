"""Back-propagation through time, written out by hand (Werbos 1990).

The network, for one sequence and t = 1 … T:

    h_t = tanh(U x_t + W h_{t-1} + b)      o_t = V h_t + c      ŷ_t = output(o_t)      L = Σ_t L_t

`backward` knows no autograd: it is the derivation of docs/bptt.md, line by line, to read and to
check other code against. Training uses autograd, which does the same.

Vectors are columns here, and U is the matrix of the *input*. Keras writes rows: its `kernel` is Uᵀ,
its `recurrent_kernel` is Wᵀ, and the kernel of a Dense layer on top is Vᵀ.

Tensors have time first and no batch: `x (T, D)`, `h (T, u)`, `o (T, m)`, row 0 for t = 1. Over a
batch the losses add up, and so do the gradients. Any float dtype; float64 to compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable


class Weights(NamedTuple):
    """The weights, or a gradient for each."""

    U: Tensor
    """`(u, D)`, from the input"""
    W: Tensor
    """`(u, u)`, from the state before"""
    b: Tensor
    """`(u,)`"""
    V: Tensor
    """`(m, u)`, to the output"""
    c: Tensor
    """`(m,)`"""


@dataclass(frozen=True)
class Head:
    """What the network ends in: the output function, and the loss with its gradient at o."""

    output: Callable[[Tensor], Tensor]
    """o → ŷ, `(T, m) → (T, m)`"""
    loss: Callable[[Tensor, Tensor], Tensor]
    """ŷ, y → L_t for each t, `(T,)`"""
    gradient: Callable[[Tensor, Tensor], Tensor]
    """ŷ, y → ∂L_t/∂o_t, `(T, m)`"""


def squared_error(
    output: Callable[[Tensor], Tensor], derivative: Callable[[Tensor], Tensor]
) -> Head:
    """L_t = ½ ‖ŷ_t - y_t‖² after an elementwise `output`.

    `derivative` is that of `output`, as a function of ŷ. A saturated output makes it small, and
    with it all that is learnt from an error, however large.
    """
    return Head(
        output=output,
        loss=lambda y_hat, y: 0.5 * ((y_hat - y) ** 2).sum(-1),
        gradient=lambda y_hat, y: (y_hat - y) * derivative(y_hat),
    )


LINEAR = squared_error(lambda o: o, torch.ones_like)
SIGMOID = squared_error(torch.sigmoid, lambda y_hat: y_hat * (1 - y_hat))

SOFTMAX = Head(
    output=lambda o: torch.softmax(o, -1),
    loss=lambda y_hat, y: -torch.xlogy(y, y_hat).sum(-1),
    gradient=lambda y_hat, y: y_hat - y,
)
"""Cross-entropy L_t = -Σ_k y_k log ŷ_k; each y_t sums to 1 (one-hot, or any distribution).

The slope of softmax and that of the logarithm cancel: nothing saturates.
"""


class Pass(NamedTuple):
    """What the forward pass leaves behind, for `backward`."""

    x: Tensor
    h_before: Tensor
    """h_{t-1} for each t, `(T, u)`"""
    h: Tensor
    """h_t, `(T, u)`"""
    y_hat: Tensor
    """ŷ_t, `(T, m)`"""


def forward(weights: Weights, x: Tensor, head: Head, h_0: Tensor | None = None) -> Pass:
    """Runs over `x (T, D)`, T ≥ 1, from the state `h_0 (u,)`, by default zeros."""
    U, W, b, V, c = weights
    states = [torch.zeros_like(b) if h_0 is None else h_0]
    for x_t in x:
        states.append(torch.tanh(U @ x_t + W @ states[-1] + b))
    h = torch.stack(states)
    h_before, h = h[:-1], h[1:]
    o = h @ V.T + c
    return Pass(x, h_before, h, head.output(o))


class Gradients(NamedTuple):
    """What `backward` finds."""

    weights: Weights
    """∂L/∂U, ∂L/∂W, ∂L/∂b, ∂L/∂V, ∂L/∂c"""
    delta: Tensor
    """δ_t = ∂L/∂h_t, `(T, u)`"""
    h_0: Tensor
    """∂L/∂h_0, `(u,)`: what an encoder before this network would learn from"""


@torch.no_grad()
def backward(
    weights: Weights, run: Pass, y: Tensor, head: Head, chunk: int | None = None
) -> Gradients:
    """The gradients of L = Σ_t L_t for targets `y (T, m)`.

    With `chunk` the sequence is cut after every `chunk` timesteps, as in stateful training: each
    chunk starts from the state that the one before has reached, and no gradient crosses the cut.
    The result is the sum over the chunks, all at the same weights.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"`chunk` is a number of timesteps, 1 or more, or None; not {chunk}.")
    _, W, _, V, _ = weights
    x, h_before, h, y_hat = run
    slope = 1 - h**2  # of tanh, as a function of its value

    d_o = head.gradient(y_hat, y)
    delta = torch.empty_like(h)
    from_after = torch.zeros_like(h[0])  # Wᵀ diag(1 - h_{t+1}²) δ_{t+1}; nothing comes after T
    for t in reversed(range(len(h))):
        if chunk is not None and (t + 1) % chunk == 0:
            from_after = torch.zeros_like(from_after)
        delta[t] = V.T @ d_o[t] + from_after
        from_after = W.T @ (slope[t] * delta[t])

    d_z = slope * delta  # z_t = U x_t + W h_{t-1} + b
    sums = Weights(U=d_z.T @ x, W=d_z.T @ h_before, b=d_z.sum(0), V=d_o.T @ h, c=d_o.sum(0))
    return Gradients(sums, delta, h_0=from_after)


def jacobians(weights: Weights, h: Tensor) -> Tensor:
    """∂h_T/∂h_t = diag(1 - h_T²) W ⋯ diag(1 - h_{t+1}²) W for each t, `(T, u, u)`.

    `h (T, u)` is the pass' h. The last Jacobian is the identity.
    """
    products = [torch.eye(h.shape[1], dtype=h.dtype, device=h.device)]
    for h_t in h.flip(0)[:-1]:
        products.append(products[-1] @ ((1 - h_t**2)[:, None] * weights.W))
    return torch.stack(products[::-1])
