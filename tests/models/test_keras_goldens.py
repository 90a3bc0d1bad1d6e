"""Our layers against Keras itself, through the files that goldens/make_goldens.py made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from models import GRU, LSTM, RNN, SimpleRNN

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDENS = Path(__file__).parent / "goldens"
UNITS = 5

LAYERS: dict[str, Callable[[], RNN]] = {
    "simple_rnn": lambda: SimpleRNN(UNITS, **SEQUENCES),
    **{
        f"gru_reset_before_{gate}": lambda gate=gate: GRU(
            UNITS, recurrent_activation=gate, reset_after=False, **SEQUENCES
        )
        for gate in ("sigmoid", "hard_sigmoid")
    },
    **{
        f"gru_reset_after_{gate}": lambda gate=gate: GRU(
            UNITS, recurrent_activation=gate, reset_after=True, **SEQUENCES
        )
        for gate in ("sigmoid", "hard_sigmoid")
    },
    **{
        f"lstm_{gate}": lambda gate=gate: LSTM(UNITS, recurrent_activation=gate, **SEQUENCES)
        for gate in ("sigmoid", "hard_sigmoid")
    },
}
SEQUENCES: dict[str, Any] = {"return_sequences": True, "return_state": True}


def test_every_golden_file_is_used() -> None:
    assert {path.stem for path in GOLDENS.glob("*.npz")} == set(LAYERS)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", LAYERS)
def test_agrees_with_keras(case: str, masked: bool) -> None:
    with np.load(GOLDENS / f"{case}.npz") as file:
        golden = {name: file[name] for name in file.files}
    layer = LAYERS[case]()
    layer.build(golden["inputs"].shape)
    layer.set_weights(numbered(golden, "weight"))

    outputs, *states = layer(
        torch.from_numpy(golden["inputs"]),
        mask=torch.from_numpy(golden["mask"]) if masked else None,
        initial_state=[torch.from_numpy(state) for state in numbered(golden, "initial")],
    )

    prefix = "masked" if masked else "plain"
    np.testing.assert_allclose(
        outputs.detach().numpy(), golden[f"{prefix}_outputs"], rtol=0, atol=1e-6
    )
    expected = numbered(golden, f"{prefix}_state")
    for state, value in zip(states, expected, strict=True):
        np.testing.assert_allclose(state.detach().numpy(), value, rtol=0, atol=1e-6)


def numbered(golden: dict[str, Any], name: str) -> list[Any]:
    """The arrays `<name>_0`, `<name>_1`, …"""
    return [golden[key] for key in sorted(golden) if key.startswith(f"{name}_")]
