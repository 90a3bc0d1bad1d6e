"""What there is to export: a model's inputs, found or given, and what it did when it ran once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

import models
from export.carrier import MASK, Carrier
from export.cells import FAMILY
from export.chain import is_chain
from export.errors import ExportError, UnsupportedLayer
from export.signature import BATCH, TIME, Signature, State, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from export.interception import RecurrentCall

# Sizes of batch and time in the two runs that show which axis is which.
_SIZES = ((2, 7), (3, 11))


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A model that runs, the calls of its recurrent layers in order, and its signature."""

    carrier: Carrier
    signature: Signature
    calls: tuple[RecurrentCall, ...]

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
    given = _own_inputs(model) if inputs is None else inputs
    if mask:
        _check_maskable(model, given)
        given = {**given, MASK: models.Input((None, None), "bool")}
    first, second = (_run(carrier, given, *sizes) for sizes in _SIZES)
    outputs_seen, _, calls = first
    tensors = {name: _output(name, [seen, second[0][name]]) for name, seen in outputs_seen.items()}
    states = [*_carried(calls), *(_written(tensors.pop(name)) for name in carrier.writes)]
    signature = Signature(
        inputs=tuple(_input(name, each) for name, each in given.items()),
        outputs=tuple(tensors.values()),
        states=tuple(states),
        may_be_cut=_may_be_cut(model, given, calls, may_be_cut),
    )
    return Plan(carrier, _of_one_step(signature) if one_step else signature, tuple(calls))


def zeros(inputs: Mapping[str, models.Input], batch: int, time: int) -> dict[str, torch.Tensor]:
    """An example of each input; masks are true."""
    return {
        name: torch.full(
            each.sized(batch, time), each.dtype == "bool", dtype=getattr(torch, each.dtype)
        )
        for name, each in inputs.items()
    }


def _run(
    carrier: Carrier, inputs: Mapping[str, models.Input], batch: int, time: int
) -> tuple[dict[str, torch.Tensor], object, list[RecurrentCall]]:
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


def _own_inputs(model: nn.Module) -> Mapping[str, models.Input]:
    """Those that the model itself says, or that it was built for."""
    said: Mapping[str, models.Input] | None = getattr(model, "inputs", None)
    if isinstance(said, dict):
        return said
    shape = model.input_shape if isinstance(model, models.Sequential) else None
    if isinstance(model, models.RNN):
        shape = model._input_shape
    if shape is None:
        raise ExportError(
            f"what {type(model).__name__} takes is not known: name its inputs, as in "
            'inputs={"frames": models.Input((None, None, 12))}'
        )
    sizes = (None, *shape[1:])
    if not isinstance(model, models.Sequential):
        return {"frames": models.Input(sizes)}
    first = model.layers[0]
    if isinstance(first, models.Embedding):
        return {model.input_name: models.Input(sizes, "int64", high=first.input_dim)}
    return {model.input_name: models.Input(sizes)}


def _check_maskable(model: nn.Module, inputs: Mapping[str, models.Input]) -> None:
    if not isinstance(model, (models.Sequential, models.RNN)):
        raise ExportError(
            f"mask=True is for a Sequential or a recurrent layer; {type(model).__name__} takes a "
            "mask if one of its inputs is one"
        )
    if not any(each.time for each in inputs.values()):
        raise ExportError("mask=True: no input of the model counts timesteps")


def _input(name: str, each: models.Input) -> Tensor:
    return Tensor(
        name,
        each.dtype,
        tuple(_symbolic(axis, size) for axis, size in enumerate(each.shape)),
        1 if each.time else None,
        high=each.high,
        constant=each.constant,
        optional=name == MASK and each.dtype == "bool",
    )


def _carried(calls: Sequence[RecurrentCall]) -> Iterator[State]:
    for call in calls:
        for name, shape in zip(call.states, call.state_shapes, strict=bool(call.states)):
            yield State(name, f"{name}_next", (BATCH, *shape))


def _written(tensor: Tensor) -> State:
    """A state that the model sets without reading it."""
    return State(tensor.name, f"{tensor.name}_next", tensor.shape, tensor.dtype)


def _symbolic(index: int, size: int | None) -> int | str:
    return size if size is not None else (TIME if index else BATCH)


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
    return Tensor(name, dtype, tuple(shape), shape.index(TIME) if TIME in shape else None)


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
