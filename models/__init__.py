"""Recurrent layers in Keras' terms, as torch modules, and the example models trained with them."""

from models.cells import Cell, GRUCell, LSTMCell, SimpleRNNCell
from models.dense import Dense
from models.layer import Layer, deserialize, register, serialize
from models.normalization import Normalization
from models.recurrent import GRU, LSTM, SimpleRNN
from models.rnn import RNN
from models.sequential import Sequential

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "Dense",
    "GRUCell",
    "LSTMCell",
    "Layer",
    "Normalization",
    "Sequential",
    "SimpleRNN",
    "SimpleRNNCell",
    "deserialize",
    "register",
    "serialize",
]
