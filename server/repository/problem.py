"""What is wrong with a model's configuration or file, before it is known which file to name."""

from __future__ import annotations


class Problem(Exception):
    """One line: the field, what stands there, what was expected. `load` puts the file in front."""
