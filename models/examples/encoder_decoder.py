"""Encoder and decoder: one sequence of symbols becomes another, of a length of its own.

    I. Sutskever, O. Vinyals, Q. V. Le, "Sequence to Sequence Learning with Neural Networks", 2014.

The encoder reads all of the source, the last symbol first. Its final states are where the decoder
starts, and all that the decoder learns of the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from torch import nn
from torch.nn import functional

from models.embedding import Embedding
from models.examples.decoder import Decoder, DecoderStep
from models.input import Input
from models.layer import Layer
from models.recurrent import LSTM
from models.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from models.cells import States
    from models.options import LayerOptions


@register
class EncoderDecoder(Layer):
    """From `source_symbols` kinds of symbols to `target_symbols` kinds, both numbered from 0.

    Symbols become vectors of `embedding` numbers; encoder and decoder are an LSTM of `units` each.
    In training a share `dropout` of the vectors' numbers and of the decoder's outputs is left out.

    Two functions make up the whole, and each can be run without the other:

        states         = encode(source, mask)
        logits, states = decoder(previous, states)
    """

    def __init__(
        self,
        source_symbols: int,
        target_symbols: int,
        units: int,
        embedding: int,
        dropout: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.source_symbols, self.target_symbols = source_symbols, target_symbols
        self.units, self.embedding, self.dropout = units, embedding, dropout
        self.vectors = Embedding(source_symbols, embedding)
        # sigmoid gates: the form that runs as one kernel
        self.encoder = LSTM(
            units, recurrent_activation="sigmoid", return_state=True, go_backwards=True
        )
        self.decoder = Decoder(target_symbols, units, embedding, dropout)
        self.build((None, None))

    def build(self, input_shape: Any) -> None:
        """Of `input_shape` nothing is needed: `__init__` calls this."""
        self.vectors.build(input_shape)
        self.encoder.build((None, None, self.embedding))

    def encode(self, source: Tensor, mask: Tensor | None = None) -> States:
        """Symbols `(B, S)`, `mask (B, S)` true where they are real → states h, c, `(B, units)`."""
        vectors = functional.dropout(self.vectors(source), self.dropout, self.training)
        _, *states = self.encoder(vectors, mask=mask)
        return tuple(states)

    def call(self, source: Tensor, mask: Tensor | None = None, limit: int = 50) -> list[Tensor]:
        """What becomes of each row of `source (B, S)`, at most `limit` symbols: B rows `(T_i,)`.

        The decoder is told its own choices, always the likeliest symbol.
        """
        return self.decoder.greedy(self.encode(source, mask), limit)

    def parts(self) -> dict[str, nn.Module]:
        """What can be served side by side: a session of the decoder begins with the states of one
        of the encoder.
        """
        return {"encoder": EncoderStep(self), "decoder": DecoderStep(self.decoder)}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "source_symbols": self.source_symbols,
            "target_symbols": self.target_symbols,
            "units": self.units,
            "embedding": self.embedding,
            "dropout": self.dropout,
        }


class EncoderStep(nn.Module):
    """An encoder as it is served: `source (B, S)` and its mask in one request, and no output.

    What it has read is in its states `encoder_h` and `encoder_c`.
    """

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.inputs = {
            "source": Input((None, None), "int64"),
            "mask": Input((None, None), "bool"),
        }
        self.vectors, self.encoder = model.vectors, model.encoder

    def forward(self, source: Tensor, mask: Tensor) -> None:
        self.encoder(self.vectors(source), mask=mask)
