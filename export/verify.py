"""The proof: the exported graph computes what the torch model computes, however it is run.

Reference is each request of each session run whole, alone, in torch. Against it, in ONNX Runtime:

- `whole`: each request alone, in one run
- `together`: whole requests of equal length in batches of strangers, different every time in size,
  members and order

and, of a model that may be cut:

- `steps`: alone, timestep by timestep, the states carried by hand
- `strangers`: timestep by timestep, in batches of strangers: what a session sees when it is served
- `chunks`: the same with several timesteps at once, a random number of them

for every output and every state. Requests have different lengths; the random sessions begin, every
other one, with random states instead of zeros; masks are arbitrary.

A recurrent model may be chaotic: two correct computations in float32 part from each other. Where
an error is above the limit, torch is run in float64 as well, and the limit of each session is
ROUNDINGS times the error of torch itself there, if that is larger. Short sessions keep the limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from export.cases import random_cases, real_case
from export.errors import ExportError
from export.playing import Played, play
from export.proof import RELATIVE_LIMIT, Proof, compare, errors_of
from export.schedules import schedules_of
from inspection.runtime import plain_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from export.carrier import Carrier
    from export.cases import Array, Case
    from export.plan import Plan
    from export.proof import Row
    from export.signature import Signature

ROUNDINGS = 4


def verify(
    plan: Plan,
    onnx_model: str | bytes,
    signature: Signature | None = None,
    real: Sequence[Array] = (),
    *,
    limit: float | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda comparison: None,
) -> Proof:
    """Run all comparisons.

    Args:
        plan: the torch model.
        onnx_model: path or bytes of the graph, which runs on the CPU in one thread.
        signature: of that graph, if its states are of another dtype than the model's.
        real: inputs from the model's data set, (time, …) or (…), for a model of one input.
        limit: of the relative error of floating-point numbers; by default that of `export.proof`.
        seed: of the random requests, states, batches and chunks.
        progress: called with the name of each comparison before it begins.

    Raises:
        ExportError: torch or the graph does not run, or gives shapes that it did not give before.
    """
    rng = np.random.default_rng(seed)
    session, signature = plain_session(onnx_model), signature or plan.signature
    rows: list[Row] = []
    sources = {"random": random_cases(signature, plan.draws, rng)}
    if real:
        sources["real data"] = [real_case(signature, each) for each in real]
    for source, cases in sources.items():
        expected = _all_in_torch(plan.carrier, signature, cases)
        for name, schedule in schedules_of(signature).items():
            comparison = f"{name}, {source}"
            progress(comparison)
            played = play(session, signature, cases, schedule(cases, rng))
            pairs = _pairs(signature, expected, played)
            found = [compare(comparison, *each, _limits(each, limit)) for each in pairs]
            if limit is None and not all(row.passed for row in found):
                allowed = _rounding(plan.carrier, signature, cases, expected)
                found = [
                    compare(comparison, *each, limits)
                    for each, limits in zip(pairs, allowed, strict=True)
                ]
            rows += found
    return Proof(tuple(rows))


def _all_in_torch(
    carrier: Carrier,
    signature: Signature,
    cases: Sequence[Case],
    dtype: torch.dtype = torch.float32,
) -> list[Played]:
    played = []
    for case in cases:
        try:
            played.append(_in_torch(carrier, signature, case, dtype))
        except Exception as error:  # whatever a model of one's own may raise
            raise ExportError(
                f"the model does not run on requests of {case.lengths[0]} timesteps: "
                f"{type(error).__name__}: {error}"
            ) from error
    return played


def _in_torch(carrier: Carrier, signature: Signature, case: Case, dtype: torch.dtype) -> Played:
    def tensor(array: Array) -> torch.Tensor:
        made = torch.from_numpy(array[np.newaxis].copy())
        return made.to(dtype) if made.is_floating_point() else made

    states = tuple(map(tensor, case.states))
    outputs = []
    with torch.inference_mode():
        for request in case.requests:
            inputs = {name: tensor(array) for name, array in request.items()}
            returned, states = carrier.step(inputs, states)
            outputs.append({t.name: returned[t.name][0].numpy() for t in signature.outputs})
    return Played(tuple(outputs), tuple(state[0].numpy() for state in states))


def _rounding(
    carrier: Carrier, signature: Signature, cases: Sequence[Case], expected: Sequence[Played]
) -> list[list[float]]:
    """Limits for every tensor and pair: what torch itself does not get more exact. The usual one
    where the model does not run in float64.
    """
    try:
        exact = _all_in_torch(carrier.in_float64(), signature, cases, torch.float64)
    except ExportError:
        exact = list(expected)
    return [
        [max(RELATIVE_LIMIT, ROUNDINGS * relative) for _, relative in errors_of(*both)]
        for _, *both in _pairs(signature, exact, expected)
    ]


Pairs: TypeAlias = "tuple[str, list[Array], list[Array]]"


def _limits(pairs: Pairs, limit: float | None) -> list[float] | None:
    """None for the usual ones. Whole numbers and flags may jump: no limit other than the usual one
    makes sense for them.
    """
    if limit is None:
        return None
    _, expected, _ = pairs
    return [limit if np.issubdtype(array.dtype, np.floating) else np.inf for array in expected]


def _pairs(
    signature: Signature, expected: Sequence[Played], played: Sequence[Played]
) -> list[Pairs]:
    """Every output, of all requests, and every state, of all sessions: wanted and got."""

    def of_output(name: str, side: Sequence[Played]) -> list[Array]:
        return [each[name] for case in side for each in case.outputs]

    def of_state(place: int, side: Sequence[Played]) -> list[Array]:
        return [case.states[place] for case in side]

    pairs: list[Pairs] = []
    for tensor in signature.outputs:
        name = tensor.name
        pairs.append((name, of_output(name, expected), of_output(name, played)))
    for place, state in enumerate(signature.states):
        pairs.append((state.name, of_state(place, expected), of_state(place, played)))
    return pairs
