"""The norms are those of the real Jacobians, and they show what docs/bptt.md says they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from demo.vanishing_gradient import (
    CHANGED,
    FEATURES,
    GAPS,
    INITIALISED,
    UNITS,
    as_initialised,
    jacobian_norms,
    main,
    mean,
    measure,
)
from models import GRU, LSTM, SimpleRNN
from models.bptt import LINEAR, Weights, forward, jacobians

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

X = torch.randn(8, FEATURES, generator=torch.Generator().manual_seed(0)).double()


def test_simple_rnn_equals_the_product_worked_out_by_hand() -> None:
    layer = as_initialised(SimpleRNN)
    kernel, recurrent_kernel, bias = (weight.detach() for weight in layer.weights)
    head = torch.zeros(1, UNITS).double(), torch.zeros(1).double()
    weights = Weights(kernel.T, recurrent_kernel.T, bias, *head)

    products = jacobians(weights, forward(weights, X, LINEAR).h)

    expected = torch.linalg.matrix_norm(products, ord=2).flip(0)
    torch.testing.assert_close(jacobian_norms(layer, X), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("cls", [SimpleRNN, LSTM, GRU])
def test_equals_differentiating_the_rest_of_the_sequence(cls: Any) -> None:
    """From each state on, as numbers: h and c of an LSTM are two inputs, whatever made them."""
    layer = as_initialised(cls)
    norms = jacobian_norms(layer, X)

    assert norms[0] == pytest.approx(1)
    for gap in range(1, len(X)):
        _, *states = layer(X[None, :-gap])
        blocks = torch.autograd.functional.jacobian(
            lambda *given, gap=gap: last_h(layer, X[-gap:], given), tuple(states)
        )
        whole = torch.cat([block.reshape(UNITS, UNITS) for block in blocks], dim=1)
        assert norms[gap].item() == pytest.approx(torch.linalg.matrix_norm(whole, ord=2).item())


def last_h(layer: Any, rest: Tensor, states: tuple[Tensor, ...]) -> Tensor:
    return layer(rest[None], initial_state=list(states))[0]


def test_who_forgets_and_who_need_not() -> None:
    """The claims of docs/bptt.md, each with room for other seeds."""
    initialised = [mean(norms)[GAPS] for norms in measure(INITIALISED, 2).values()]
    doubled, forget_bias, update_bias = (mean(norms) for norms in measure(CHANGED, 2).values())

    assert max(initialised) < 1e-7
    assert doubled[GAPS] > 100
    assert 0.01 < forget_bias[GAPS] < 10
    assert 1e-5 < update_bias[GAPS] < 1


@pytest.mark.parametrize(("suffix", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_writes_a_picture_and_prints_the_figures(
    suffix: str, start: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"norms{suffix}"

    assert main(["--output", str(file), "--seeds", "1"]) == 0

    assert file.read_bytes().startswith(start)
    printed = capsys.readouterr().out
    assert all(name.split(",")[0] in printed for name in (*INITIALISED, *CHANGED))
    assert printed.count(f" {GAPS} ") == 2, "one row for the largest gap in each table"
