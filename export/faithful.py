"""Is the model, with its states outside, still the model?

The proof measures the graph against a copy whose recurrent layers were given their states from
outside. That is the user's model only if the layers do nothing else than the family's, and if the
model is a function of its inputs and states: no random numbers, no counters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from export.carrier import MASK
from export.errors import UnsupportedLayer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from export.plan import Plan

_BATCH, _TIME = 2, 7
_TOLERANCE = 1e-5  # of the largest number


def check_faithful(plan: Plan) -> None:
    """Run the untouched model, twice, and the copy from zeros. Raises UnsupportedLayer where the
    outputs differ.
    """
    inputs = _inputs(plan)
    zeros = [torch.zeros(_BATCH, *map(int, state.shape[1:])) for state in plan.signature.states]
    with torch.inference_mode():
        first = plan.carrier.untouched(inputs)
        outside, *_ = plan.carrier.run(inputs, zeros)
        again = plan.carrier.untouched(inputs)
    if not _same(first, again):
        raise UnsupportedLayer(
            f"{type(plan.model).__name__} gives other numbers each time for the same inputs: it "
            "draws random numbers, or changes something in itself, which no graph can do"
        )
    if not _same(first, outside):
        raise UnsupportedLayer(
            f"{type(plan.model).__name__} gives other numbers with the states of its recurrent "
            "layers outside: a layer overrides `scan` or `get_initial_state`, or is called with "
            "training=True; write what it does as a cell for models.RNN"
        )


def _inputs(plan: Plan) -> Mapping[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    inputs = {}
    for tensor in plan.signature.inputs:
        rows = [
            plan.draws[tensor.name].values(tensor, tensor.sized(_TIME), rng) for _ in range(_BATCH)
        ]
        values = torch.from_numpy(np.stack(rows))
        inputs[tensor.name] = torch.ones_like(values) if tensor.name == MASK else values
    return inputs


def _same(some: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        torch.allclose(
            tensor.double(),
            others[name].double(),
            rtol=0,
            atol=_TOLERANCE * max(1.0, _largest(tensor)),
            equal_nan=True,
        )
        for name, tensor in some.items()
    )


def _largest(tensor: torch.Tensor) -> float:
    return float(tensor.double().abs().max()) if tensor.numel() else 0.0
