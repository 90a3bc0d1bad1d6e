"""The cells: one step each, pure."""

from models.cells.base import Cell, States
from models.cells.conv_lstm_2d import ConvLSTM2DCell
from models.cells.cudnn import CuDNNGRUCell, CuDNNLSTMCell
from models.cells.gated_feedback import GatedFeedbackRNNCell
from models.cells.gru import GRUCell
from models.cells.like import CellLike
from models.cells.lstm import LSTMCell
from models.cells.simple_rnn import SimpleRNNCell
from models.cells.stacked import StackedRNNCells

__all__ = [
    "Cell",
    "CellLike",
    "ConvLSTM2DCell",
    "CuDNNGRUCell",
    "CuDNNLSTMCell",
    "GRUCell",
    "GatedFeedbackRNNCell",
    "LSTMCell",
    "SimpleRNNCell",
    "StackedRNNCells",
    "States",
]
