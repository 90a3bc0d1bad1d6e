"""The examples that `rnnserve train` knows, by name."""

from models.examples.digits import DIGITS
from models.examples.example import Example
from models.examples.exercises import EXERCISES
from models.examples.moving_digits import MOVING_DIGITS
from models.examples.names import NAMES
from models.examples.pronunciations import FULL_PRONUNCIATIONS, PRONUNCIATIONS
from models.examples.vowels import VOWELS

EXAMPLES = {
    "digits": DIGITS,
    "names": NAMES,
    "vowels": VOWELS,
    "pronunciations": PRONUNCIATIONS,
    "pronunciations-full": FULL_PRONUNCIATIONS,
    "exercises": EXERCISES,
    "moving-digits": MOVING_DIGITS,
}

__all__ = ["EXAMPLES", "Example"]
