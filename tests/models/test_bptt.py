"""The hand-derived gradients against autograd, against the layers, and against pencil and paper."""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.functional import jacobian

from models import Dense, SimpleRNN
from models.bptt import LINEAR, SIGMOID, SOFTMAX, Weights, backward, forward, jacobians

ROOT = Path(__file__).parents[2]

HEADS = {"linear": LINEAR, "sigmoid": SIGMOID, "softmax": SOFTMAX}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=list(HEADS))

sizes = st.integers(1, 5)
seeds = st.integers(0, 10_000)


class Problem(NamedTuple):
    weights: Weights
    x: Tensor
    y: Tensor
    h_0: Tensor


def problem(T: int, D: int, u: int, m: int, seed: int) -> Problem:
    """Random weights, inputs and initial state; targets that are distributions suit every loss.

    All of a size that keeps tanh away from saturation: there 1 - h² is a difference of two numbers
    that are nearly equal, and the last digit of h decides about many of the gradient's.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        """Between ±1 over the square root of the last axis: a row times ±1 stays around ±1."""
        sample = torch.rand(*shape, generator=generator, dtype=torch.float64)
        return (2 * sample - 1) / math.sqrt(shape[-1])

    weights = Weights(U=uniform(u, D), W=uniform(u, u), b=uniform(u), V=uniform(m, u), c=uniform(m))
    return Problem(weights, 3 * uniform(T, D), (4 * uniform(T, m)).softmax(-1), uniform(u))


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal within 1e-12 of the largest element."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12 * scale)


def all_close(actual: Any, expected: Any) -> None:
    for one, other in zip(actual, expected, strict=True):
        close(one, other)


# By hand


def test_two_steps_worked_out_by_hand() -> None:
    """One unit, U = 1, W = 0.5, b = 0, V = 2, c = 0.1, x = ln 2, ln 3 - 0.3, y = 1, 1.8.

    z_1 = ln 2, h_1 = tanh(ln 2) = (4 - 1)/(4 + 1) = 0.6
    z_2 = ln 3 - 0.3 + 0.5·0.6 = ln 3, h_2 = (9 - 1)/(9 + 1) = 0.8
    ŷ = 1.3, 1.7, so ∂L/∂o = 0.3, -0.1

    δ_2 = 2·(-0.1) = -0.2                            ∂L/∂z_2 = (1 - 0.64)·(-0.2) = -0.072
    δ_1 = 2·0.3 + 0.5·(-0.072) = 0.564               ∂L/∂z_1 = (1 - 0.36)·0.564 = 0.36096
    ∂L/∂h_0 = 0.5·0.36096 = 0.18048
    ∂L/∂c = 0.3 - 0.1 = 0.2                          ∂L/∂V = 0.3·0.6 - 0.1·0.8 = 0.1
    ∂L/∂b = 0.36096 - 0.072 = 0.28896                ∂L/∂W = -0.072·0.6 = -0.0432
    """
    weights, x, y = tiny()
    run = forward(weights, x, LINEAR)
    gradients = backward(weights, run, y, LINEAR)

    assert run.h.flatten().tolist() == pytest.approx([0.6, 0.8])
    assert run.y_hat.flatten().tolist() == pytest.approx([1.3, 1.7])
    assert LINEAR.loss(run.y_hat, y).tolist() == pytest.approx([0.045, 0.005])
    assert gradients.delta.flatten().tolist() == pytest.approx([0.564, -0.2])
    assert gradients.h_0.item() == pytest.approx(0.18048)
    assert [gradient.item() for gradient in gradients.weights] == pytest.approx(
        [0.36096 * math.log(2) - 0.072 * (math.log(3) - 0.3), -0.0432, 0.28896, 0.1, 0.2]
    )


def test_cut_after_each_step_worked_out_by_hand() -> None:
    """As above, but nothing comes back from step 2: δ_1 = 2·0.3 = 0.6, ∂L/∂z_1 = 0.64·0.6 = 0.384.

    Step 2 still starts from h_1 = 0.6, so ∂L/∂W stays -0.0432; ∂L/∂b = 0.384 - 0.072 = 0.312.
    """
    weights, x, y = tiny()
    gradients = backward(weights, forward(weights, x, LINEAR), y, LINEAR, chunk=1)

    assert gradients.delta.flatten().tolist() == pytest.approx([0.6, -0.2])
    assert gradients.weights.W.item() == pytest.approx(-0.0432)
    assert gradients.weights.b.item() == pytest.approx(0.312)


def tiny() -> tuple[Weights, Tensor, Tensor]:
    def column(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)[:, None]

    weights = Weights(column(1.0), column(0.5), column(0.0)[0], column(2.0), column(0.1)[0])
    return weights, column(math.log(2), math.log(3) - 0.3), column(1.0, 1.8)


def test_what_each_head_does_with_an_error() -> None:
    """o = ln 4 and ln 1, y = 1 and 0.

    sigmoid: ŷ = 0.8, 0.5; ∂L/∂o = -0.2·0.8·0.2, 0.5·0.5·0.5 = -0.032, 0.125; L = ½·(0.04 + 0.25)
    softmax: ŷ = 0.8, 0.2; ∂L/∂o = -0.2, 0.2; L = -ln 0.8
    """
    o = torch.tensor([[math.log(4), 0.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    slopes = {SIGMOID: [-0.032, 0.125], SOFTMAX: [-0.2, 0.2], LINEAR: [math.log(4) - 1, 0.0]}
    losses = {SIGMOID: 0.145, SOFTMAX: -math.log(0.8), LINEAR: 0.5 * (math.log(4) - 1) ** 2}

    for head, expected in slopes.items():
        y_hat = head.output(o)
        assert head.gradient(y_hat, y)[0].tolist() == pytest.approx(expected)
        assert head.loss(y_hat, y).item() == pytest.approx(losses[head])


# Against autograd


@every_head
@given(T=sizes, D=sizes, u=sizes, m=sizes, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_gradients_equal_autograd(head, T: int, D: int, u: int, m: int, seed: int) -> None:
    weights, x, y, h_0 = problem(T, D, u, m, seed)
    leaves = [tensor.requires_grad_() for tensor in (*weights, h_0)]
    run = forward(weights, x, head, h_0)
    expected = torch.autograd.grad(head.loss(run.y_hat, y).sum(), leaves)

    gradients = backward(weights, run, y, head)

    assert not any(gradient.requires_grad for gradient in gradients.weights)
    all_close([*gradients.weights, gradients.h_0], expected)


@every_head
@given(T=sizes, u=sizes, seed=seeds)
@settings(max_examples=20, deadline=None)
def test_delta_is_the_gradient_of_each_state(head, T: int, u: int, seed: int) -> None:
    """δ_t counts every path from h_t on; autograd finds them where h_t itself stands in the graph.

    Hence the loop here: each h_t is a tensor of its own that the next step reads.
    """
    weights, x, y, h_0 = problem(T, 2, u, 3, seed)
    U, W, b, V, c = weights
    states = [h_0.requires_grad_()]
    for x_t in x:
        states.append(torch.tanh(U @ x_t + W @ states[-1] + b))
    y_hat = head.output(torch.stack(states[1:]) @ V.T + c)
    expected = torch.autograd.grad(head.loss(y_hat, y).sum(), states[1:])

    close(backward(weights, forward(weights, x, head, h_0), y, head).delta, torch.stack(expected))


@given(T=sizes, u=sizes, seed=seeds)
@settings(max_examples=20, deadline=None)
def test_jacobians_equal_autograd(T: int, u: int, seed: int) -> None:
    weights, x, _, h_0 = problem(T, 2, u, 3, seed)
    h = forward(weights, x, LINEAR, h_0).h
    products = jacobians(weights, h)

    assert products[-1].equal(torch.eye(u, dtype=torch.float64))
    for t in range(T - 1):
        last = partial(last_state, weights, x[t + 1 :])
        close(products[t], jacobian(last, h[t]))


def last_state(weights: Weights, x: Tensor, h_0: Tensor) -> Tensor:
    return forward(weights, x, LINEAR, h_0).h[-1]


def test_a_loss_at_the_end_comes_back_through_the_jacobians() -> None:
    """Where only L_T is not zero, δ_t = (∂h_T/∂h_t)ᵀ δ_T: what vanishes when they do."""
    weights, x, y, h_0 = problem(6, 2, 4, 3, 0)
    run = forward(weights, x, LINEAR, h_0)
    delta = backward(weights, run, torch.cat([run.y_hat[:-1], y[-1:]]), LINEAR).delta

    close(delta, delta[-1] @ jacobians(weights, run.h))


# Against the layers


def layers(weights: Weights, **options: Any) -> tuple[SimpleRNN, Dense]:
    """SimpleRNN and Dense with these weights: Keras' kernels are the transposes."""
    (u, D), m = weights.U.shape, len(weights.c)
    recurrent = SimpleRNN(u, return_sequences=True, **options)
    recurrent.build((1, None, D))
    dense = Dense(m)
    dense.build((1, None, u))
    recurrent.double().set_weights([weights.U.T.numpy(), weights.W.T.numpy(), weights.b.numpy()])
    dense.double().set_weights([weights.V.T.numpy(), weights.c.numpy()])
    return recurrent, dense


def gradients_of(recurrent: SimpleRNN, dense: Dense) -> Weights:
    """What autograd has left in the layers, as the reference writes it."""
    kernel, recurrent_kernel, bias = (weight.grad for weight in recurrent.weights)
    output_kernel, output_bias = (weight.grad for weight in dense.weights)
    return Weights(kernel.T, recurrent_kernel.T, bias, output_kernel.T, output_bias)


@every_head
@given(T=sizes, D=sizes, u=sizes, m=sizes, seed=seeds)
@settings(max_examples=20, deadline=None)
def test_equals_simple_rnn(head, T: int, D: int, u: int, m: int, seed: int) -> None:
    weights, x, y, h_0 = problem(T, D, u, m, seed)
    recurrent, dense = layers(weights)
    h = recurrent(x[None], initial_state=[h_0[None]])
    y_hat = head.output(dense(h)[0])
    head.loss(y_hat, y).sum().backward()

    run = forward(weights, x, head, h_0)

    close(run.h, h[0].detach())
    close(run.y_hat, y_hat.detach())
    all_close(backward(weights, run, y, head).weights, gradients_of(recurrent, dense))


@every_head
@given(T=st.integers(1, 9), chunk=st.integers(1, 10), seed=seeds)
@settings(max_examples=20, deadline=None)
def test_chunks_equal_a_stateful_layer(head, T: int, chunk: int, seed: int) -> None:
    """Truncated back-propagation, as it is trained: chunk after chunk, states carried over."""
    weights, x, y, h_0 = problem(T, 2, 3, 3, seed)
    recurrent, dense = layers(weights, stateful=True)
    recurrent.reset_states([h_0[None].numpy()])
    for start in range(0, T, chunk):
        part = slice(start, start + chunk)
        y_hat = head.output(dense(recurrent(x[None, part]))[0])
        head.loss(y_hat, y[part]).sum().backward()  # adds to what the chunks before have left

    run = forward(weights, x, head, h_0)

    all_close(backward(weights, run, y, head, chunk).weights, gradients_of(recurrent, dense))


def test_a_chunk_is_at_least_one_step() -> None:
    weights, x, y, _ = problem(2, 1, 1, 1, 0)
    with pytest.raises(ValueError, match="1 or more, or None; not 0"):
        backward(weights, forward(weights, x, LINEAR), y, LINEAR, chunk=0)


# Against the page


def test_the_page_quotes_the_code() -> None:
    page = (ROOT / "docs" / "bptt.md").read_text()
    code = (ROOT / "models" / "bptt.py").read_text()
    quoted = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)).splitlines()

    assert quoted
    assert not [line for line in quoted if line not in code]
