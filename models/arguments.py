"""The ways in which a recurrent layer may be given its states and constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Tensors: TypeAlias = Tensor | Sequence[Tensor] | None


class Arguments(NamedTuple):
    """What a call is about: inputs, states and constants apart."""

    inputs: Tensor
    initial_state: list[Tensor] | None
    constants: list[Tensor] | None


def sort_out(
    inputs: Tensor | Sequence[Tensor],
    initial_state: Tensors,
    constants: Tensors,
    count: int | None,
    states: int | None,
) -> Arguments:
    """From keywords, or from the flat list `[inputs, *states, *constants]`.

    `count` is the number of constants, if the layer knows it. Else, where `states` (the number of
    states of a cell that takes constants) is given, what comes after them is constants.

    Raises ValueError if states or constants come in the list and as a keyword.
    """
    if isinstance(inputs, Tensor):
        return Arguments(inputs, _list(initial_state), _list(constants))
    inputs, *rest = inputs
    if rest and (initial_state is not None or constants is not None):
        raise ValueError(
            "Initial states and constants come either in the list of inputs or as keywords, not "
            f"both: the list has {len(rest)} tensors beside the inputs."
        )
    if not rest:
        return Arguments(inputs, _list(initial_state), _list(constants))
    if count is not None and len(rest) < count:
        raise ValueError(
            f"The layer was first called with {count} constants; the list of inputs has "
            f"{len(rest)} tensors beside the inputs."
        )
    if count is None:
        count = max(0, len(rest) - states) if states is not None else 0
    split = len(rest) - count
    return Arguments(inputs, rest[:split] or None, rest[split:] or None)


def _list(tensors: Any) -> list[Tensor] | None:
    if tensors is None:
        return None
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)
