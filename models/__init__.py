"""Recurrent layers in Keras' terms, as torch modules, and the example models trained with them."""

from models.cells import (
    Cell,
    ConvLSTM2DCell,
    GatedFeedbackRNNCell,
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    StackedRNNCells,
)
from models.dense import Dense
from models.embedding import Embedding
from models.input import Input
from models.layer import Layer
from models.masking import Masking
from models.normalization import Normalization
from models.recurrent import (
    GRU,
    LSTM,
    ConvLSTM2D,
    CuDNNGRU,
    CuDNNLSTM,
    GatedFeedbackRNN,
    SimpleRNN,
)
from models.registry import deserialize, register, serialize
from models.rnn import RNN
from models.sequential import Sequential

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "ConvLSTM2D",
    "ConvLSTM2DCell",
    "CuDNNGRU",
    "CuDNNLSTM",
    "Dense",
    "Embedding",
    "GRUCell",
    "GatedFeedbackRNN",
    "GatedFeedbackRNNCell",
    "Input",
    "LSTMCell",
    "Layer",
    "Masking",
    "Normalization",
    "Sequential",
    "SimpleRNN",
    "SimpleRNNCell",
    "StackedRNNCells",
    "deserialize",
    "register",
    "serialize",
]
