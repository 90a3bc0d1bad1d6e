"""Who comes when, and with how many timesteps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.simulation.cost import LONGEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOBODY = -1


@dataclass(frozen=True)
class Lengths:
    """Log-normal numbers of timesteps, redrawn until they lie in 1 … `LONGEST`.

    The logarithms of sentence lengths are close to normal; so are those of many durations.
    """

    name: str
    mean: float  # of the distribution before it is cut off
    sigma: float  # of the logarithm

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        mu = np.log(self.mean) - self.sigma**2 / 2
        drawn = np.zeros(count)
        while (wrong := (drawn < 1) | (drawn >= LONGEST + 1)).any():
            drawn[wrong] = rng.lognormal(mu, self.sigma, wrong.sum())
        return drawn.astype(np.int64)


# As in translation corpora: 24 words on average, the longest of a million sentences above 300.
SENTENCES = Lengths("sentences", mean=24, sigma=0.7)
# A tail that fills the whole range: 1 in 20 has more than 115 timesteps, 1 in 100 more than 225.
HEAVY = Lengths("heavy tail", mean=36, sigma=1.1)


@dataclass(frozen=True)
class Workload:
    """Requests by number. Request `i` of `session[i]` has `timesteps[i]`; it comes at `start_s[i]`
    or, where it is the `following[j]` of a request `j`, so long after the answer to that one.
    """

    session: list[int]
    timesteps: list[int]
    start_s: list[float]
    following: list[int]

    def __len__(self) -> int:
        return len(self.timesteps)


def singles(lengths: Lengths, rate: float, count: int, seed: int) -> Workload:
    """Poisson arrivals, `rate` a second (inf: all at once); each a new session's only request."""
    rng = np.random.default_rng(seed)
    start_s = np.cumsum(rng.exponential(1 / rate, count))
    timesteps = lengths.draw(rng, count)
    return Workload(list(range(count)), timesteps.tolist(), start_s.tolist(), [NOBODY] * count)


def returning(
    lengths: Lengths, rate: float, count: int, seed: int, *, visits: int, pause_s: float
) -> Workload:
    """Sessions that come at random and send `visits` requests each, `rate` requests a second
    together; after each answer they pause for an exponential time of mean `pause_s`.
    """
    rng = np.random.default_rng(seed)
    sessions = count // visits
    start_s = rng.exponential(pause_s, (sessions, visits))
    start_s[:, 0] = np.cumsum(rng.exponential(visits / rate, sessions))
    numbers = np.arange(sessions * visits).reshape(sessions, visits)
    following = numbers + 1
    following[:, -1] = NOBODY
    return Workload(
        np.repeat(np.arange(sessions), visits).tolist(),
        lengths.draw(rng, numbers.size).tolist(),
        start_s.ravel().tolist(),
        following.ravel().tolist(),
    )
