"""A model's config as what a Sequential takes: layers in a row.

Sequential models are that by themselves. A functional model is a graph: each layer's config says
whose output it reads, as `inbound_nodes`. It will do if one input leads to one output without a
branch. The mask of a `Masking` does not count as one, although Keras 3 writes it as layers of its
own, a `NotEqual` and an `Any`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from models.keras_files.errors import KerasFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.keras_files.saved import Config

Shape: TypeAlias = tuple[int | None, ...]
Entry: TypeAlias = Mapping[str, Any]
FUNCTIONAL = ("Functional", "Model")
HARMLESS = {"training": False, "mask": None}  # of a call's keywords


class Chain(NamedTuple):
    """The layers' configs in a row, without input layers, and the input's shape if it is known."""

    entries: list[Entry]
    input_shape: Shape | None


class Source(NamedTuple):
    """Whose output is read, which of its outputs, and the keywords of the call."""

    name: str
    tensor: int
    keywords: Mapping[str, Any]


def entries(model: Config) -> list[Entry]:
    """The configs of all layers; those of a functional model in no order.

    KerasFileError for a model of another class.
    """
    config, class_name = model["config"], model["class_name"]
    if class_name not in ("Sequential", *FUNCTIONAL):
        raise KerasFileError(
            f"The file's model is a {class_name}: only Sequential models can be read, and "
            "functional ones."
        )
    layers = config if isinstance(config, list) else config["layers"]  # a list before Keras 2.2.3
    return list(layers)


def chain_of(model: Config) -> Chain:
    """The layers in a row; KerasFileError if they are none."""
    row = entries(model)
    if model["class_name"] in FUNCTIONAL:
        row = _row(row, model["config"])
    shape = next((shape for shape in map(_input_shape, row) if shape is not None), None)
    return Chain([entry for entry in row if entry["class_name"] != "InputLayer"], shape)


def _input_shape(entry: Entry) -> Shape | None:
    config = entry["config"]
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    return None if shape is None else tuple(shape)


def _row(entries: list[Entry], config: Config) -> list[Entry]:
    """From the only output back to the only input, turned round."""
    layers = {entry["config"]["name"]: entry for entry in entries}
    start, name = _only(config["input_layers"], "inputs"), _only(config["output_layers"], "outputs")
    row = [layers[name]]
    while name != start:
        name = _source(layers[name]).name
        row.append(layers[name])
    row.reverse()
    beside = [entry for entry in layers.values() if entry not in row]
    strangers = [_called(e) for e in beside if not _is_of_a_mask(e, layers, row)]
    if strangers:
        raise KerasFileError(
            f"The layers of the file's model are not in a row: {', '.join(strangers)} beside it."
        )
    return row


def _only(tensors: Any, what: str) -> str:
    """The layer of the only tensor in a list, which may be that tensor itself."""
    tensors = list(tensors.values()) if isinstance(tensors, Mapping) else tensors
    tensors = [tensors] if isinstance(tensors[0], str) else tensors
    if len(tensors) != 1:
        raise KerasFileError(f"The file's model has {len(tensors)} {what}: only one will do.")
    return str(tensors[0][0])


def _source(entry: Entry) -> Source:
    """What a layer reads; KerasFileError unless it is called once, with one tensor."""
    if len(entry["inbound_nodes"]) != 1:
        raise KerasFileError(f"{_called(entry)} is used {len(entry['inbound_nodes'])} times.")
    sources = list(_sources(entry["inbound_nodes"][0]))
    if len(sources) != 1:
        raise KerasFileError(f"{_called(entry)} reads {len(sources)} tensors: only one will do.")
    (source,) = sources
    if source.tensor:
        raise KerasFileError(f"{_called(entry)} reads a state of {source.name!r}, not its output.")
    for keyword, value in source.keywords.items():
        from_masking = keyword == "mask" and isinstance(value, Mapping)  # Keras 3, see _row
        if value is not None and value != HARMLESS.get(keyword) and not from_masking:
            raise KerasFileError(f"{_called(entry)} is called with {keyword}={value!r:.60}.")
    return source


def _sources(node: Any) -> Iterator[Source]:
    """Of one call: `[[name, 0, index, keywords]]`, or with Keras 3 arguments with a history."""
    if not isinstance(node, Mapping):
        for name, _, index, *keywords in node:
            yield Source(name, index, keywords[0] if keywords else {})
        return
    for argument in node["args"]:
        for tensor in argument if isinstance(argument, list) else [argument]:
            if isinstance(tensor, Mapping):
                name, _, index = tensor["config"]["keras_history"]
                yield Source(name, index, node["kwargs"])


def _is_of_a_mask(entry: Entry, layers: Mapping[str, Entry], row: list[Entry]) -> bool:
    """Whether `entry` computes the mask of a Masking in the row: `any(inputs != mask_value)`."""
    if entry["class_name"] == "Any":
        below = layers[_source(entry).name]
        return below["class_name"] == "NotEqual" and _is_of_a_mask(below, layers, row)
    if entry["class_name"] != "NotEqual":
        return False
    value = entry["inbound_nodes"][0]["args"][1]
    return any(
        masking["class_name"] == "Masking"
        and masking["config"]["mask_value"] == value
        and _source(masking).name == _source(entry).name
        for masking in row
    )


def _called(entry: Entry) -> str:
    return f"{entry['config']['name']!r} ({entry['class_name']})"
