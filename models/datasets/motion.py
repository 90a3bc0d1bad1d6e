"""Films of handwritten digits that move through a frame and bounce off its edges.

The idea is that of Moving MNIST: N. Srivastava, E. Mansimov, R. Salakhutdinov, "Unsupervised
Learning of Video Representations using LSTMs", 2015, section 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from models.datasets.handwriting import digits

if TYPE_CHECKING:
    from models.datasets.sequences import Array

Part: TypeAlias = Literal["train", "validation", "test"]

SIDE = 8  # pixels of a digit's image
# Pixels per frame, downwards and to the right: the eight neighbours of a pixel.
VELOCITIES = np.array([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)])


def moving_digits(
    count: int,
    frames: int = 20,
    size: int = 20,
    seed: int = 0,
    split: Part = "train",
    digits_per_film: int = 2,
) -> Array:
    """`count` films, float32 `(count, frames, size, size, 1)` of 0 to 1.

    Each digit moves by one pixel per frame, straight or diagonally, and turns round at the edges.
    Where digits overlap the darker one is seen. The images are those of `digits()`'s part `split`;
    the same arguments give the same films.

    Raises ValueError where a digit has no room to move, or for an unknown `split`.
    """
    parts = dict(zip(("train", "validation", "test"), digits(), strict=True))
    if split not in parts:
        raise ValueError(f"split is {split!r}; it must be one of {sorted(parts)}.")
    if size <= SIDE:
        raise ValueError(f"size is {size}; digits of {SIDE} pixels need at least {SIDE + 1}.")
    random = np.random.default_rng(seed)
    images = parts[split].images
    films = np.zeros((count, frames, size, size), dtype=np.float32)
    for _ in range(digits_per_film):
        chosen = images[random.integers(len(images), size=count)]
        corners = _paths(count, frames, size - SIDE, random)
        _draw(films, chosen, corners)
    return films[..., None]


def _paths(count: int, frames: int, room: int, random: np.random.Generator) -> Array:
    """Where a digit's upper left corner is: row and column, 0 to `room`, `(count, frames, 2)`.

    Bouncing between two walls is running round a circle of twice the distance, seen from the side.
    """
    start = random.integers(2 * room, size=(count, 1, 2))
    velocity = random.choice(VELOCITIES, size=(count, 1))
    angle = (start + velocity * np.arange(frames)[:, None]) % (2 * room)
    return room - np.abs(room - angle)


def _draw(films: Array, images: Array, corners: Array) -> None:
    """Draws `images (count, 8, 8)` into `films (count, frames, size, size)` at `corners`."""
    film, frame, row, column = np.ogrid[: films.shape[0], : films.shape[1], :SIDE, :SIDE]
    place = film, frame, corners[..., 0, None, None] + row, corners[..., 1, None, None] + column
    films[place] = np.maximum(films[place], images[:, None])
