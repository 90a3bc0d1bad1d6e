"""The examples that `rnnserve train` knows, by name."""

from models.examples.example import Example
from models.examples.vowels import VOWELS

EXAMPLES = {
    "vowels": VOWELS,
}

__all__ = ["EXAMPLES", "Example"]
