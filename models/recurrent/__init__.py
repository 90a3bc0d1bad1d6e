"""The recurrent layers that make their own cell, with Keras' names, arguments and defaults."""

from models.recurrent.base import CellRNN
from models.recurrent.conv_lstm_2d import ConvLSTM2D
from models.recurrent.cudnn import CuDNNGRU, CuDNNLSTM
from models.recurrent.gated_feedback import GatedFeedbackRNN
from models.recurrent.gru import GRU
from models.recurrent.lstm import LSTM
from models.recurrent.simple_rnn import SimpleRNN

__all__ = [
    "GRU",
    "LSTM",
    "CellRNN",
    "ConvLSTM2D",
    "CuDNNGRU",
    "CuDNNLSTM",
    "GatedFeedbackRNN",
    "SimpleRNN",
]
