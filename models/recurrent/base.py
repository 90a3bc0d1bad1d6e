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
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls._with_constants(dict(config))

    def __getattr__(self, name: str) -> Any:
        """What the layer itself does not have is its cell's, as in Keras: `units`, `kernel`, …"""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or name == "cell":
                raise
            return getattr(super().__getattr__("cell"), name)
