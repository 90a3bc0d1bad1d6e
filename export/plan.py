"""What there is to export: what a model takes, and what it does when it runs once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

import models
from export.carrier import Carrier
from export.cells import FAMILY
from export.chain import is_chain
from export.errors import ExportError, UnsupportedLayer
from export.inputs import Draw, described, draws_of, inputs_of, zeros
from export.signature import BATCH, DTYPES, TIME, Signature, State, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from export.interception import RecurrentCall
    from models.cells import States

    Ran = tuple[dict[str, torch.Tensor], States, list[RecurrentCall]]

# Sizes of batch and time in the two runs that show which axis is which.
_SIZES = ((2, 7), (3, 11))


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A model that runs, the calls of its recurrent layers in order, its signature, and how random
    inputs are drawn.
    """

    carrier: Carrier
    signature: Signature
    calls: tuple[RecurrentCall, ...]
    draws: Mapping[str, Draw]

    @property
    def model(self) -> nn.Module:
        """The copy that runs."""
        return self.carrier.model


def plan_of(
    model: nn.Module,
    inputs: Mapping[str, models.Input] | None,
    outputs: Sequence[str] | None,
    *,
    mask: bool,
    may_be_cut: bool | None,
    one_step: bool,
) -> Plan:
    """Run the model twice on zeros and look.

    Raises:
        UnsupportedLayer: it has no weights yet, or cannot be exported.
        ExportError: inputs or outputs are not said, or do not fit.
    """
    carrier = Carrier(model, outputs)
    given = inputs_of(model, inputs, mask=mask)
    first, second = (_run(carrier, given, *sizes) for sizes in _SIZES)
    seen, finals, calls = first
    _check_calls(calls, second[2])
    _check_states(calls, finals)
    tensors = {name: _output(name, [seen[name], second[0][name]]) for name in seen}
    states = [*_carried(calls), *_written(carrier.writes, tensors)]
    signature = Signature(
        inputs=tuple(described(name, each) for name, each in given.items()),
        outputs=tuple(tensors.values()),
        states=tuple(states),
        may_be_cut=_may_be_cut(model, given, calls, may_be_cut),
    )
    if is_chain(model) and calls and not any(each.time for each in given.values()):
        raise ExportError(
            f"{type(model).__name__} runs over any number of timesteps: its input is "
            "models.Input((None, None, …)), its second axis of unknown size"
        )
    return Plan(
        carrier,
        _of_one_step(signature) if one_step else signature,
        tuple(calls),
        draws_of(model, given),
    )


def _run(carrier: Carrier, inputs: Mapping[str, models.Input], batch: int, time: int) -> Ran:
    with torch.inference_mode():
        try:
            return carrier.run(zeros(inputs, batch, time))
        except ExportError:
            raise
        except Exception as error:  # whatever a model of one's own may raise
            shapes = {name: each.shape for name, each in inputs.items()}
            raise ExportError(
                f"the model does not run on inputs {shapes} of zeros: "
                f"{type(error).__name__}: {error}"
            ) from error


def _check_calls(first: Sequence[RecurrentCall], second: Sequence[RecurrentCall]) -> None:
    """A layer that is called once for each timestep would have ever more states."""
    names, others = ([call.name for call in calls] for calls in (first, second))
    if names != others:
        (_, few), (_, many) = _SIZES
        raise UnsupportedLayer(
            f"which recurrent layers are called depends on the number of timesteps: {few} make "
            f"{len(names)} calls, {many} make {len(others)}; hand a layer all timesteps at once, "
            "or write the step as a cell for models.RNN"
        )


def _check_states(calls: Sequence[RecurrentCall], finals: States) -> None:
    names = (name for call in calls for name in call.states)
    for name, state in zip(names, finals, strict=True):
        if state.dtype is not torch.float32:
            raise UnsupportedLayer(
                f"state {name!r} is of {state.dtype}: a cell's states are numbers of the dtype of "
                "its weights, float32 here"
            )


def _output(name: str, tensors: Sequence[torch.Tensor]) -> Tensor:
    """Which axis of an output is which, by its sizes in both runs."""
    first, second = (tuple(tensor.shape) for tensor in tensors)
    shape: list[int | str] = []
    batches, times = zip(*_SIZES, strict=True)
    for axis, sizes in enumerate(zip(first, second, strict=True)):
        if sizes == batches and axis == 0:
            shape.append(BATCH)
        elif sizes == times and TIME not in shape:
            shape.append(TIME)
        else:
            shape.append(sizes[0] if sizes[0] == sizes[1] else f"{name}_{axis}")
    if BATCH not in shape:
        raise UnsupportedLayer(
            f"output {name!r} has shape {first} for a batch of {batches[0]}: its first axis is not "
            "the batch, so that sessions could not share a step"
        )
    dtype = str(tensors[0].dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise UnsupportedLayer(
            f"output {name!r} is of {dtype}: expected one of {', '.join(sorted(DTYPES))}"
        )
    return Tensor(name, dtype, tuple(shape), shape.index(TIME) if TIME in shape else None)


def _carried(calls: Sequence[RecurrentCall]) -> Iterator[State]:
    for call in calls:
        for name, shape in zip(call.states, call.state_shapes, strict=bool(call.states)):
            yield State(name, f"{name}_next", (BATCH, *shape))


def _written(names: Sequence[str], outputs: dict[str, Tensor]) -> Iterator[State]:
    """States that the model sets without reading them; they leave `outputs`."""
    for name in names:
        tensor = outputs.pop(name, None)
        if tensor is None or tensor.dtype != "float32" or tensor.shape[1:] != _sizes(tensor):
            raise ExportError(
                f"{name!r}, which the model lists in `writes`, is no state: expected an output of "
                "that name, float32, of the batch axis and fixed sizes"
            )
        yield State(name, f"{name}_next", tensor.shape)


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    return tuple(size for size in tensor.shape[1:] if isinstance(size, int))


def _may_be_cut(
    model: nn.Module,
    inputs: Mapping[str, models.Input],
    calls: Sequence[RecurrentCall],
    said: bool | None,
) -> bool:
    """Whether pieces give what the whole gives: as `said`, else as far as the layers tell. A module
    of one's own may do anything between them, and must say.
    """
    if said is False or not any(each.time for each in inputs.values()):
        return False
    if said is True:
        return True
    if not is_chain(model):
        says = not isinstance(model, models.Sequential) and getattr(model, "causal", False)
        return says is True
    return not any(call.layer.go_backwards or (call.masked and _forgets(call)) for call in calls)


def _forgets(call: RecurrentCall) -> bool:
    """Whether a masked first timestep gives something else than the output before it."""
    return call.zero_output or type(call.layer.cell) not in FAMILY


def _of_one_step(signature: Signature) -> Signature:
    """For a graph of a single timestep; longer requests must be cut."""
    if not signature.may_be_cut:
        raise ExportError(
            "a graph of one step is for models that may be cut between any two timesteps, which "
            "is not known of this one"
        )
    return replace(
        signature,
        inputs=tuple(replace(each, shape=_one(each.shape)) for each in signature.inputs),
        outputs=tuple(replace(each, shape=_one(each.shape)) for each in signature.outputs),
    )


def _one(shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return tuple(1 if size == TIME else size for size in shape)
