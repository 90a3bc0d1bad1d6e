"""The cells: one step each, pure."""

from models.cells.base import Cell, States
from models.cells.gru import GRUCell
from models.cells.lstm import LSTMCell
from models.cells.simple_rnn import SimpleRNNCell

__all__ = ["Cell", "GRUCell", "LSTMCell", "SimpleRNNCell", "States"]
