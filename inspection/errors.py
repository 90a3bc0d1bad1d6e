"""What can go wrong by somebody's doing. The text of each is one line for whoever called."""

from __future__ import annotations


class Refused(Exception):
    """Not an ONNX model, or none that can be served: the text says why and what to do."""


class NotProven(Exception):
    """The server's answers differ from plain ONNX Runtime's; nothing was written."""
