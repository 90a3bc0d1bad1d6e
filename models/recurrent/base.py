"""What SimpleRNN, GRU, LSTM and the like share: a layer that makes its own cell."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Self

from models.options import LayerOptions
from models.rnn import RNN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.layer import Layer


_OF_RNN = {*signature(RNN.__init__).parameters, *LayerOptions.__annotations__}


def arguments(scope: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a constructor by name, from its `locals()`."""
    named = {k: v for k, v in scope.items() if k not in ("self", "__class__", "options")}
    return {**named, **scope["options"]}


class CellRNN(RNN):
    """An `RNN` whose arguments are its cell's as well: so are its config and its attributes."""

    cell_class: ClassVar[type[Layer]]

    def __init__(self, **given: Any) -> None:
        """What `RNN` does not take, the cell does."""
        own = {name: given.pop(name) for name in _OF_RNN & given.keys()}
        super().__init__(self.cell_class(**given), **own)

    def get_config(self) -> dict[str, Any]:
        return {**self.cell.get_config(), **self._own_config()}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, type[Any]] | None = None
    ) -> Self:
        return cls._with_constants(dict(config))

    def __getattr__(self, name: str) -> Any:
        """What the layer itself does not have is its cell's, as in Keras: `units`, `kernel`, …"""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or name == "cell":
                raise
            return getattr(super().__getattr__("cell"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        """What is the cell's can be set on the cell only, or it would have no effect."""
        known = name in self.__dict__ or hasattr(type(self), name)
        cell = None if known else self.__dict__.get("_modules", {}).get("cell")
        if cell is not None and hasattr(cell, name):
            raise AttributeError(f"`{name}` belongs to the layer's cell: set `layer.cell.{name}`.")
        super().__setattr__(name, value)
