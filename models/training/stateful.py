"""What training does with stateful layers: reset them, and do without them where it can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from models.registry import deserialize, serialize
from models.rnn import RNN

if TYPE_CHECKING:
    from models.layer import Layer
    from models.training.settings import Settings


def recurrent_layers(model: Layer) -> list[RNN]:
    """All recurrent layers in `model`, however deep."""
    return [module for module in model.modules() if isinstance(module, RNN)]


def reset_states(model: Layer) -> None:
    """Sets the states of all stateful layers in `model` to zero."""
    for layer in recurrent_layers(model):
        if layer.stateful:
            layer.reset_states()


def check(model: Layer, settings: Settings) -> None:
    """ValueError where `settings` have states carried on that the layers of `model` forget."""
    forgetful = [layer.name for layer in recurrent_layers(model) if not layer.stateful]
    carried = settings.chunk is not None or settings.reset == "epoch"
    if carried and forgetful:
        raise ValueError(
            f"chunk={settings.chunk} and reset={settings.reset!r} carry states from call to call: "
            f"the recurrent layers need stateful=True, but {', '.join(forgetful)} has it not."
        )


def stateless(model: Layer) -> Layer:
    """A copy of `model` without stateful layers, or `model` itself if it has none.

    A stateful layer takes batches of one size only, and goes on from what it saw last. The copy
    takes whole sequences, as many as one likes: that is what is evaluated, saved and served.
    """
    if not any(layer.stateful for layer in recurrent_layers(model)):
        return model
    with torch.random.fork_rng(devices=[]):  # the copy's first weights are nobody's
        copy: Layer = deserialize(_without_stateful(serialize(model)))
    copy.load_state_dict(model.state_dict())
    return copy.to(next(model.parameters()).device)


def _without_stateful(config: Any) -> Any:
    if isinstance(config, dict):
        return {
            key: False if key == "stateful" else _without_stateful(value)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return [_without_stateful(value) for value in config]
    return config
