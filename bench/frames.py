"""Load by frames: one message carries a step of each of many sessions. Prints session-steps per
second.

    python -m bench.frames 127.0.0.1:8001 lstm256 --sessions 256 --seconds 2

It is the client's own `Group`, as users have it: numbers every step, decodes every answer.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np

import rnnserve
from bench.shapes import FEATURES

WINDOW = 3  # frames under way: one is decoded while another runs
WARM_UP_S = 0.3


def measure(target: str, model: str, sessions: int, seconds: float) -> float:
    x = np.linspace(-1, 1, sessions * FEATURES, dtype=np.float32).reshape(sessions, FEATURES)
    with rnnserve.connect(target) as client, client.group(model, sessions) as group:
        begin_s = time.perf_counter() + WARM_UP_S
        end_s = begin_s + seconds
        frames = itertools.takewhile(lambda _: time.perf_counter() < end_s, itertools.repeat(x))
        answered = sum(time.perf_counter() >= begin_s for _ in group.stream(frames, window=WINDOW))
        return answered * sessions / (time.perf_counter() - begin_s)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("model")
    parser.add_argument("--sessions", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    print(measure(given.target, given.model, given.sessions, given.seconds))
