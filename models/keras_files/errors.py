"""What can be wrong with a file of Keras, or with what it is to be loaded into."""

from __future__ import annotations


class KerasFileError(ValueError):
    """A file cannot be read, or does not fit: the text says what to do."""
