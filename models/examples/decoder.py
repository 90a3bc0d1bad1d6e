"""A decoder: says a sequence, one symbol after the other, from nothing but the states it is given.

It is told each time which symbol was said last: the right one in training (teacher forcing, R. J.
Williams and D. Zipser 1989), its own choice in earnest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.dense import Dense
from models.embedding import Embedding
from models.input import Input
from models.layer import Layer
from models.recurrent import LSTM
from models.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.cells import States
    from models.options import LayerOptions


@register
class Decoder(Layer):
    """Says symbols of 0 to `symbols` - 1; one more, `boundary`, stands before and behind them.

    Symbols become vectors of `embedding` numbers, which an LSTM of `units` reads; in training a
    share `dropout` of these numbers and of its outputs is left out.
    """

    def __init__(
        self,
        symbols: int,
        units: int,
        embedding: int,
        dropout: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.symbols, self.units = symbols, units
        self.embedding, self.dropout = embedding, dropout
        self.boundary = symbols
        self.vectors = Embedding(symbols + 1, embedding)
        # sigmoid gates: the form that runs as one kernel
        self.lstm = LSTM(
            units, recurrent_activation="sigmoid", return_state=True, return_sequences=True
        )
        self.head = Dense(symbols + 1)
        self.build((None, None))

    def build(self, input_shape: Any) -> None:
        """Of `input_shape` nothing is needed: `__init__` calls this."""
        self.vectors.build(input_shape)
        self.lstm.build((None, None, self.embedding))
        self.head.build((None, None, self.units))

    def call(self, previous: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, States]:
        """What may come next, after each of the symbols `previous (B, T)`: logits, new states.

        Logits are `(B, T, symbols + 1)`. `states` are h and c, `(B, units)`: those to begin with,
        and `previous` starts with the boundary; or what an earlier call has left.
        """
        vectors = self._drop(self.vectors(previous))
        outputs, *states = self.lstm(vectors, initial_state=states)
        return self.head.logits(self._drop(outputs)), tuple(states)

    def surprise(self, said: Tensor, mask: Tensor, states: Sequence[Tensor]) -> Tensor:
        """`-log p` of each row of symbols `said (B, T)` and its end, `(B,)`.

        `mask (B, T)` is true where symbols are real, at the beginning of each row.
        """
        real = torch.where(mask, said, self.boundary)
        boundary = real.new_full((len(real), 1), self.boundary)
        logits, _ = self(torch.cat([boundary, real], dim=1), states)
        following = torch.cat([real, boundary], dim=1)
        of_each = functional.cross_entropy(logits.transpose(1, 2), following, reduction="none")
        counts = functional.pad(mask, (1, 0), value=True)  # one more than there are symbols
        return torch.where(counts, of_each, 0.0).sum(dim=1)

    @torch.no_grad()
    def greedy(self, states: Sequence[Tensor], limit: int) -> list[Tensor]:
        """Always the likeliest symbol, up to the boundary, `limit` at most: B rows `(T_i,)`."""
        rows = len(states[0])
        said = torch.full((rows, 1), self.boundary, device=states[0].device)
        over = torch.zeros_like(said, dtype=torch.bool)
        for _ in range(limit):
            logits, states = self(said[:, -1:], states)
            said = torch.cat([said, logits.argmax(dim=-1)], dim=1)
            over |= said[:, -1:] == self.boundary
            if over.all():
                break
        return [up_to(row, self.boundary) for row in said[:, 1:]]

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "symbols": self.symbols,
            "units": self.units,
            "embedding": self.embedding,
            "dropout": self.dropout,
        }


class DecoderStep(nn.Module):
    """A decoder as it is served: `previous (B, T)` → logits `(B, T, symbols + 1)`.

    The states are those of its recurrent layer, `decoder_h` and `decoder_c`.
    """

    causal = True

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.inputs = {"previous": Input((None, None), "int64")}
        self.vectors, self.decoder, self.head = decoder.vectors, decoder.lstm, decoder.head

    def forward(self, previous: Tensor) -> dict[str, Tensor]:
        outputs, *_ = self.decoder(self.vectors(previous))
        return {"logits": self.head.logits(outputs)}


def up_to(symbols: Tensor, last: int) -> Tensor:
    """`symbols (T,)` before the first that is `last`; all where none is."""
    ended = (symbols == last).cumsum(dim=0) > 0
    return symbols[~ended]
