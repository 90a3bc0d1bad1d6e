"""The data sets that the examples train on; they come with the package.

Each loader returns (train, validation, test), or (train, test) where the original has these two,
without people, words or images that are in two of them. Sources and licences: data/README.md.
"""

from models.datasets.dictionary import PHONEMES, Lexicon, pronunciations
from models.datasets.handwriting import DIGIT_NAMES, Images, digits
from models.datasets.letters import LETTERS, spelled
from models.datasets.motion import moving_digits
from models.datasets.sequences import Split, padded
from models.datasets.shoulders import EXERCISES, Sessions, exercises
from models.datasets.vowels import japanese_vowels

__all__ = [
    "DIGIT_NAMES",
    "EXERCISES",
    "LETTERS",
    "PHONEMES",
    "Images",
    "Lexicon",
    "Sessions",
    "Split",
    "digits",
    "exercises",
    "japanese_vowels",
    "moving_digits",
    "padded",
    "pronunciations",
    "spelled",
]
