"""What SimpleRNN, GRU, LSTM and the like share: a layer that makes its own cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from models.rnn import RNN

if TYPE_CHECKING:
    from collections.abc import Mapping


class CellRNN(RNN):
    """An `RNN` whose arguments are its cell's as well: so are its config and its attributes."""

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
