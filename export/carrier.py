"""A torch model whose recurrent layers take their states from outside, and give them back.

That is what a served step is: `(inputs, states) → (outputs, states)`. Any module will do: while it
runs, each of its recurrent layers that is called without an initial state, as it would be to begin
with zeros, begins with a state that was handed in. The model itself is left alone; a copy runs.

The same copy is the reference of the proof and what torch's exporter traces.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

import models
from export.errors import ExportError, UnsupportedLayer
from export.interception import Intercepted, Ledger, computed, intercepted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from export.interception import Compute, RecurrentCall
    from models.cells import States

MASK = "mask"  # the input that says which timesteps count
_FORGETFUL = (nn.RNNBase, nn.RNNCellBase)


class Carrier:
    """`names` are those of the outputs: one for each, or None for their own.

    Outputs that the model lists in an attribute `writes` are states that it sets without reading
    them, as an encoder without memory does for its decoder.

    Raises UnsupportedLayer where the model has no weights yet, or keeps states out of reach.
    """

    def __init__(self, model: nn.Module, names: Sequence[str] | None = None) -> None:
        _check(model)
        self.model = copy.deepcopy(model).float().cpu().eval()
        self._names = names
        self.writes: tuple[str, ...] = tuple(getattr(model, "writes", ()))
        self._layers = [
            Intercepted(_name(self.model, path, layer), layer, layer.unroll)
            for path, layer in _recurrent_layers(self.model)
        ]
        for each in self._layers:
            _free(each.layer)

    def run(
        self, inputs: Mapping[str, Tensor], states: Sequence[Tensor] | None = None
    ) -> tuple[dict[str, Tensor], States, list[RecurrentCall]]:
        """One request: outputs by name, the new states, and which layers were called on the way.

        Without `states`, from zeros.
        """
        return self._run(inputs, states, computed)

    def untouched(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the model gives by itself, nobody between its layers and their states."""
        for each in self._layers:
            each.layer.unroll = each.unrolled
        try:
            return self._named(_call(self.model, inputs))
        finally:
            for each in self._layers:
                each.layer.unroll = False

    def step(
        self, inputs: Mapping[str, Tensor], states: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], States]:
        """One request as it is served: outputs, and all states, those in `writes` last."""
        outputs, new, _ = self.run(inputs, states)
        return outputs, (*new, *(outputs.pop(name) for name in self.writes))

    def in_float64(self) -> Carrier:
        """The same with twice as many digits."""
        double = copy.deepcopy(self)
        double.model.double()
        return double

    def trace(
        self, inputs: Mapping[str, Tensor], states: Sequence[Tensor], compute: Compute
    ) -> tuple[dict[str, Tensor], States]:
        """As `run`, with `compute` in place of the loops over time."""
        outputs, new, _ = self._run(inputs, states, compute)
        return outputs, new

    def _run(
        self, inputs: Mapping[str, Tensor], states: Sequence[Tensor] | None, compute: Compute
    ) -> tuple[dict[str, Tensor], States, list[RecurrentCall]]:
        ledger = Ledger(states, compute)
        with intercepted(self._layers, ledger):
            returned = _call(self.model, inputs)
        return self._named(returned), tuple(ledger.finals), ledger.calls

    def _named(self, returned: Any) -> dict[str, Tensor]:
        """Outputs by name. Raises ExportError for what is no tensor, or has no name of its own."""
        if returned is None:
            return {}
        if not isinstance(returned, dict):
            tensors = [returned] if isinstance(returned, Tensor) else list(returned)
            fields = getattr(returned, "_fields", None)  # of a named tuple
            names = self._names or fields or self._default_names(len(tensors))
            if len(names) != len(tensors) or len(set(names)) != len(names):
                raise ExportError(
                    f"model returns {len(tensors)} tensors, but {len(names)} outputs are named: "
                    f"{', '.join(names)}; expected as many names, all different"
                )
            returned = dict(zip(names, tensors, strict=True))
        for name, tensor in returned.items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                raise ExportError(
                    f"output {name!r} of the model is {type(tensor).__name__}: expected a tensor, "
                    "or a tuple or dict of tensors"
                )
        return dict(returned)

    def _default_names(self, count: int) -> list[str]:
        if isinstance(self.model, models.Sequential):
            return [self.model.output_name]
        if count == 1:
            return ["output"]
        if isinstance(self.model, models.RNN):  # return_state=True
            return ["output", *(f"output_{state}" for state in self.model.state_names)]
        return [f"output_{index}" for index in range(count)]


def _call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """A layer of ours takes its input first, a mask and constants by keyword; any other module
    takes each input by its name.
    """
    if isinstance(model, models.RNN):
        x, *constants = (tensor for name, tensor in inputs.items() if name != MASK)
        return model(x, mask=inputs.get(MASK), constants=constants or None)
    if isinstance(model, models.Sequential):
        (x,) = (tensor for name, tensor in inputs.items() if name != MASK)
        return model(x, mask=inputs.get(MASK))
    if isinstance(model, models.Layer) and len(inputs) == 1:
        return model(*inputs.values())
    return model(**inputs)


def _free(layer: models.RNN) -> None:
    """Of what binds it to a number of rows or timesteps."""
    layer.stateful = layer.unroll = False
    if layer._input_shape is not None:
        layer._input_shape = (None, *layer._input_shape[1:])


def _recurrent_layers(model: nn.Module) -> list[tuple[str, models.RNN]]:
    """Those that carry states from request to request, by place: one in another one's cell begins
    anew at every timestep.
    """
    layers = [(path, m) for path, m in model.named_modules() if isinstance(m, models.RNN)]
    return [(path, layer) for path, layer in layers if not _in_a_cell(path, layers)]


def _in_a_cell(path: str, layers: Sequence[tuple[str, models.RNN]]) -> bool:
    cells = (f"{outer}.cell".lstrip(".") for outer, _ in layers)
    return any(path == cell or path.startswith(f"{cell}.") for cell in cells)


def _check(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise UnsupportedLayer(f"expected a torch module, got {type(model).__name__}")
    layers = _recurrent_layers(model)
    for path, module in model.named_modules():
        if isinstance(module, models.Layer) and not module.built:
            raise UnsupportedLayer(
                f"{path or type(module).__name__} has no weights yet: build or train the model "
                "first"
            )
        if isinstance(module, _FORGETFUL) and not _in_a_cell(path, layers):
            raise UnsupportedLayer(
                f"{path or 'the model'} is torch's {type(module).__name__}, whose states nobody "
                "would keep between requests: take the layer of the same name from `models`, or "
                "export it with torch, its states as inputs and outputs, and use `rnnserve add`"
            )


def _name(model: nn.Module, path: str, layer: models.RNN) -> str:
    """Stable, readable and unlike all others: the layer's place in the model.

    What a Sequential calls the place of all its layers says nothing, and is left out.
    """
    names: list[str] = []
    module = model
    for place in path.split(".") if path else ():
        if not isinstance(module, models.Sequential):
            names.append(place)
        module = getattr(module, place)
    return "_".join(names) or layer.name
