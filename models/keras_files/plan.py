"""What becomes of each layer of a file's model.

Some layers need none of ours: what acts in training alone is left out, an Activation after a Dense
joins it, and a TimeDistributed around a Dense falls away, because our Dense takes all frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from models.keras_files.chain import chain_of
from models.keras_files.errors import KerasFileError
from models.keras_files.options import layer_of

if TYPE_CHECKING:
    from models.keras_files.chain import Entry, Shape
    from models.keras_files.saved import SavedModel
    from models.layer import Layer

TRAINING_ONLY = (
    *("Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise", "AlphaDropout"),
    "ActivityRegularization",
)


class Step(NamedTuple):
    """A layer of the file by name and class, and ours; without one, why it needs none."""

    name: str
    class_name: str
    layer: Layer | None
    note: str = ""


class Plan(NamedTuple):
    """The steps from input to output, and the input's shape if it is known."""

    steps: list[Step]
    input_shape: Shape | None

    @property
    def layers(self) -> list[Layer]:
        """Ours, in order."""
        return [step.layer for step in self.steps if step.layer is not None]


def plan_of(saved: SavedModel) -> Plan:
    """Our layers for the file's, still without weights.

    Raises KerasFileError if the file has no config, or a layer or an option has no counterpart.
    """
    if saved.config is None or saved.major is None:
        raise KerasFileError(
            f"{saved.path.name} holds weights alone: save the whole model in Keras, "
            "`model.save('model.keras')`, or make the model here and `load_weights` into it."
        )
    row, input_shape = chain_of(saved.config)
    drafts: list[Draft] = []
    for entry in row:
        drafts.append(_draft(entry, drafts))
    return Plan([draft.step(saved.major) for draft in drafts], input_shape)


@dataclass
class Draft:
    """A step before its layer is made: `entry` is what is to be made, `note` why nothing is."""

    name: str
    class_name: str
    entry: Entry
    note: str = ""

    def step(self, major: int) -> Step:
        """With the layer."""
        layer = None if self.note else layer_of(self.entry, major)
        return Step(self.name, self.class_name, layer, self.note)


def _draft(entry: Entry, before: list[Draft]) -> Draft:
    name, class_name = entry["config"]["name"], entry["class_name"]
    draft = Draft(name, class_name, entry)
    if class_name in TRAINING_ONLY:
        draft.note = "in training only"
    elif class_name == "Activation":
        draft.note = _join(entry, before)
    elif class_name == "TimeDistributed":
        inner = entry["config"]["layer"]
        if inner["class_name"] != "Dense":
            raise KerasFileError(
                f"layer {name!r}: TimeDistributed({inner['class_name']}) has no counterpart here, "
                "only TimeDistributed(Dense) has."
            )
        draft.entry = {**inner, "config": {**inner["config"], "name": name}}
    return draft


def _join(entry: Entry, before: list[Draft]) -> str:
    """Gives the activation to the Dense that it comes after."""
    activation = entry["config"]["activation"]
    last = next((draft for draft in reversed(before) if not draft.note), None)
    if last is None or last.entry["class_name"] != "Dense":
        raise KerasFileError(
            f"layer {entry['config']['name']!r}: an Activation has no counterpart here unless it "
            "comes after a Dense."
        )
    config = last.entry["config"]
    if config["activation"] != "linear":
        raise KerasFileError(
            f"layer {last.name!r} has the activation {config['activation']!r}, and "
            f"{entry['config']['name']!r} another after it: a Dense here has one."
        )
    last.entry = {**last.entry, "config": {**config, "activation": activation}}
    return "of the Dense"
